// Goal: requests go to the shortest queue, and among equal queues where the model is readiest; credits are never exceeded.
#include "policy/route.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace cenote::policy {
namespace {

TEST(Route, the_shortest_queue_wins_over_readiness) {
  const RouteCandidate candidates[] = {{.credits = 8, .outstanding = 2, .readiness = Readiness::kResident},
                                       {.credits = 8, .outstanding = 1, .readiness = Readiness::kNone}};
  EXPECT_EQ(choose_executor(candidates, 0), 1u);
}

TEST(Route, among_equal_queues_mapped_goes_before_cached_before_none) {
  RouteCandidate candidates[] = {{.credits = 8, .readiness = Readiness::kNone},
                                 {.credits = 8, .readiness = Readiness::kCached},
                                 {.credits = 8, .readiness = Readiness::kMapped}};
  for (uint64_t turn = 0; turn < 3; ++turn) EXPECT_EQ(choose_executor(candidates, turn), 2u);
  candidates[2].outstanding = 8;
  for (uint64_t turn = 0; turn < 3; ++turn) EXPECT_EQ(choose_executor(candidates, turn), 1u);
}

TEST(Route, an_executor_that_failed_the_request_or_the_revision_is_the_last_resort) {
  RouteCandidate candidates[] = {{.credits = 8, .outstanding = 0, .tried = true},
                                 {.credits = 8, .outstanding = 0, .readiness = Readiness::kFailed},
                                 {.credits = 8, .outstanding = 7}};
  EXPECT_EQ(choose_executor(candidates, 0), 2u);
  candidates[2].outstanding = 8;
  EXPECT_EQ(choose_executor(candidates, 0), 0u);
}

TEST(Route, the_turn_spreads_equal_candidates) {
  const RouteCandidate candidates[3] = {{.credits = 1}, {.credits = 1}, {.credits = 1}};
  for (uint64_t turn = 0; turn < 6; ++turn) EXPECT_EQ(choose_executor(candidates, turn), turn % 3);
}

TEST(Route, nobody_is_chosen_without_credits) {
  EXPECT_EQ(choose_executor({}, 5), std::nullopt);
  const RouteCandidate full[] = {{.credits = 2, .outstanding = 2}, {.credits = 0, .outstanding = 0}};
  EXPECT_EQ(choose_executor(full, 0), std::nullopt);
}

RC_GTEST_PROP(Route, the_choice_has_credits_and_no_untried_one_has_a_shorter_queue, (uint64_t turn)) {
  std::vector<RouteCandidate> candidates(*rc::gen::inRange(1, 20));
  for (RouteCandidate& candidate : candidates) {
    candidate.credits = *rc::gen::inRange(0, 5);
    candidate.outstanding = *rc::gen::inRange(0, 5);
    candidate.readiness = static_cast<Readiness>(*rc::gen::inRange(0, 6));
    candidate.tried = *rc::gen::arbitrary<bool>();
  }
  const auto usable = [](const RouteCandidate& c) { return c.outstanding < c.credits; };
  const auto fresh = [](const RouteCandidate& c) { return !c.tried && c.readiness != Readiness::kFailed; };
  const auto choice = choose_executor(candidates, turn);
  RC_ASSERT(choice.has_value() == std::any_of(candidates.begin(), candidates.end(), usable));
  if (!choice) return;
  const RouteCandidate& chosen = candidates[*choice];
  RC_ASSERT(usable(chosen));
  for (const RouteCandidate& other : candidates) {
    if (!usable(other) || !fresh(other)) continue;
    RC_ASSERT(fresh(chosen));
    RC_ASSERT(chosen.outstanding <= other.outstanding);
  }
}

}  // namespace
}  // namespace cenote::policy
