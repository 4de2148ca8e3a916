// Goal: eviction takes the least recently used, never what is pinned, enough and not more, or says that it cannot.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <set>

#include "policy/evict.h"

namespace cenote::policy {
namespace {

TEST(ChooseVictims, the_oldest_leave_first_and_no_more_than_needed) {
  const std::vector<EvictionCandidate> candidates = {{.size_bytes = 10, .last_use = {30}},
                                                     {.size_bytes = 10, .last_use = {10}},
                                                     {.size_bytes = 10, .last_use = {5}, .pinned = true},
                                                     {.size_bytes = 10, .last_use = {20}}};
  EXPECT_EQ(choose_victims(candidates, 11), (std::vector<size_t>{1, 3}));
  EXPECT_EQ(choose_victims(candidates, 10), (std::vector<size_t>{1}));
  EXPECT_EQ(choose_victims(candidates, 0), (std::vector<size_t>{}));
  EXPECT_FALSE(choose_victims(candidates, 31));
}

TEST(ChooseCold, the_longest_ungranted_leave_first_and_of_those_the_largest) {
  const std::vector<ColdBlock> blocks = {{.size_bytes = 4, .granted_until = {30}},
                                         {.size_bytes = 4, .granted_until = {10}},
                                         {.size_bytes = 8, .granted_until = {10}},
                                         {.size_bytes = 8, .granted_until = {10}},
                                         {.size_bytes = 1, .granted_until = {0}}};
  EXPECT_EQ(choose_cold(blocks, 1), (std::vector<size_t>{4}));
  EXPECT_EQ(choose_cold(blocks, 10), (std::vector<size_t>{4, 2, 3}));
  EXPECT_EQ(choose_cold(blocks, 25), (std::vector<size_t>{4, 2, 3, 1, 0}));
  EXPECT_EQ(choose_cold(blocks, 1000).size(), 5u) << "all there are, if they are not enough";
  EXPECT_TRUE(choose_cold(blocks, 0).empty());
}

RC_GTEST_PROP(ChooseColdProperties, they_are_in_order_enough_and_none_to_spare, ()) {
  const auto blocks = *rc::gen::container<std::vector<ColdBlock>>(rc::gen::build<ColdBlock>(
      rc::gen::set(&ColdBlock::size_bytes, rc::gen::inRange<uint64_t>(1, 100)),
      rc::gen::set(&ColdBlock::granted_until, rc::gen::map(rc::gen::inRange<int64_t>(0, 20), [](int64_t t) { return Instant{t}; }))));
  const uint64_t needed = *rc::gen::inRange<uint64_t>(0, 600);
  const auto victims = choose_cold(blocks, needed);
  uint64_t freed = 0, all = 0;
  for (const ColdBlock& block : blocks) all += block.size_bytes;
  for (size_t i = 0; i < victims.size(); ++i) {
    RC_ASSERT(freed < needed);
    freed += blocks[victims[i]].size_bytes;
    if (i > 0) RC_ASSERT(blocks[victims[i - 1]].granted_until <= blocks[victims[i]].granted_until);
  }
  RC_ASSERT(freed >= std::min(needed, all));
  RC_ASSERT(std::set<size_t>(victims.begin(), victims.end()).size() == victims.size());
}

TEST(CheckFits, a_model_larger_than_the_cache_is_refused_with_both_sizes_and_the_remedy) {
  EXPECT_TRUE(check_fits(5, 5).ok());
  const absl::Status status = check_fits(3ull << 30, 2ull << 30);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "the model needs 3.0 GiB of cache, the host has 2.0 GiB; raise agent.cache_capacity");
}

RC_GTEST_PROP(ChooseVictimsProperties, victims_are_unpinned_older_than_survivors_and_just_enough, ()) {
  const auto candidates = *rc::gen::container<std::vector<EvictionCandidate>>(rc::gen::build<EvictionCandidate>(
      rc::gen::set(&EvictionCandidate::size_bytes, rc::gen::inRange<uint64_t>(0, 100)),
      rc::gen::set(&EvictionCandidate::last_use, rc::gen::map(rc::gen::inRange<int64_t>(0, 20), [](int64_t t) { return Instant{t}; })),
      rc::gen::set(&EvictionCandidate::pinned, rc::gen::arbitrary<bool>())));
  const uint64_t needed = *rc::gen::inRange<uint64_t>(0, 600);
  const auto victims = choose_victims(candidates, needed);
  uint64_t evictable = 0;
  for (const auto& c : candidates) evictable += c.pinned ? 0 : c.size_bytes;
  RC_ASSERT(victims.has_value() == (evictable >= needed));
  if (!victims) return;
  uint64_t freed = 0;
  for (const size_t v : *victims) {
    RC_ASSERT(!candidates[v].pinned);
    freed += candidates[v].size_bytes;
  }
  RC_ASSERT(freed >= needed);
  if (!victims->empty()) RC_ASSERT(freed - candidates[victims->back()].size_bytes < needed);
  const std::set<size_t> gone(victims->begin(), victims->end());
  RC_ASSERT(gone.size() == victims->size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (gone.contains(i) || candidates[i].pinned) continue;
    for (const size_t v : *victims) RC_ASSERT(candidates[v].last_use <= candidates[i].last_use);
  }
}

}  // namespace
}  // namespace cenote::policy
