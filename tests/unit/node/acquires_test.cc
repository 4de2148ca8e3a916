// Goal: whatever order an agent's answers come in, an executor maps a revision from valid extents only and leaves nothing pinned.
#include "node/acquires.h"

#include <gtest/gtest.h>

namespace cenote {
namespace {

using Answer = Acquires::Answer;

Digest digest(uint8_t n) {
  Digest digest;
  digest.bytes[0] = n;
  return digest;
}

class AcquiresTest : public testing::Test {
 protected:
  Answer answered(uint64_t ticket, bool ok = true) { return acquires_.answered(ticket, ok, revision_); }
  Acquires acquires_;
  Digest revision_;
};

TEST_F(AcquiresTest, the_first_good_answer_is_mapped_and_a_second_one_ignored) {
  acquires_.want(digest(1), false);
  const uint64_t first = acquires_.ask(digest(1));
  acquires_.want(digest(1), true);
  const uint64_t urgent = acquires_.ask(digest(1));
  EXPECT_EQ(answered(first), Answer::kPrepare);
  EXPECT_EQ(revision_, digest(1));
  EXPECT_EQ(acquires_.ask(digest(1)), 0u);
  acquires_.prepared(digest(1));
  EXPECT_EQ(answered(urgent), Answer::kIgnore);
  EXPECT_FALSE(acquires_.wants(digest(1)));
}

TEST_F(AcquiresTest, a_good_answer_after_a_refusal_is_given_back_unless_it_is_wanted_again) {
  for (const bool again : {false, true}) {
    acquires_.want(digest(1), false);
    const uint64_t prefetch = acquires_.ask(digest(1));
    const uint64_t urgent = acquires_.ask(digest(1));
    EXPECT_EQ(answered(prefetch, false), Answer::kRefused);
    if (again) acquires_.want(digest(1), true);
    EXPECT_EQ(answered(urgent), again ? Answer::kPrepare : Answer::kRelease);
    EXPECT_EQ(revision_, digest(1));
  }
}

TEST_F(AcquiresTest, answers_from_before_a_release_do_not_count_for_what_is_wanted_after_it) {
  acquires_.want(digest(1), false);
  const uint64_t first = acquires_.ask(digest(1));
  const uint64_t late = acquires_.ask(digest(1));
  EXPECT_EQ(answered(first), Answer::kPrepare);
  acquires_.prepared(digest(1));
  acquires_.given_back(digest(1));
  acquires_.want(digest(1), true);
  const uint64_t anew = acquires_.ask(digest(1));
  EXPECT_EQ(answered(late), Answer::kIgnore);
  EXPECT_EQ(answered(anew), Answer::kPrepare);
}

TEST_F(AcquiresTest, a_strangers_ticket_and_a_late_refusal_change_nothing) {
  EXPECT_EQ(answered(77), Answer::kIgnore);
  acquires_.want(digest(1), true);
  const uint64_t one = acquires_.ask(digest(1)), two = acquires_.ask(digest(1));
  EXPECT_EQ(answered(one, false), Answer::kRefused);
  EXPECT_EQ(answered(two, false), Answer::kIgnore);
}

}  // namespace
}  // namespace cenote
