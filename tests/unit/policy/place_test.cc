// Goal: placement spreads blocks as its policy says, keeps replicas apart, never exceeds a server, and says
// what is missing.
#include "policy/place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "base/units.h"

namespace cenote {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Placed = std::vector<std::vector<uint32_t>>;

std::vector<PlaceServer> servers(size_t count, uint64_t free_bytes = 1ull << 40) {
  std::vector<PlaceServer> all;
  for (size_t i = 0; i < count; ++i) all.push_back({"memory-" + std::to_string(i), free_bytes, ""});
  return all;
}

std::vector<PlaceBlock> blocks(size_t count, uint32_t size = 4 << 20) {
  return std::vector<PlaceBlock>(count, PlaceBlock{size, {}});
}

Placed place(const std::vector<PlaceBlock>& b, const std::vector<PlaceServer>& s, PlaceOptions options) {
  const auto placed = place_blocks(b, s, options);
  EXPECT_TRUE(placed.ok()) << placed.status();
  return placed.ok() ? *placed : Placed();
}

Placed one_each(std::vector<uint32_t> list) {
  Placed placed;
  for (uint32_t server : list) placed.push_back({server});
  return placed;
}

TEST(Place, per_app_keeps_a_revision_on_the_emptiest_server) {
  auto all = servers(3);
  all[1].free_bytes *= 2;
  EXPECT_EQ(place(blocks(4), all, {.policy = PlacementPolicy::kPerApp, .replicas = 1}),
            one_each({1, 1, 1, 1}));
}

TEST(Place, horizontal_takes_groups_in_turn) {
  EXPECT_EQ(place(blocks(6), servers(2), {.policy = PlacementPolicy::kHorizontal, .replicas = 1}),
            one_each({0, 0, 1, 1, 0, 0}));
}

TEST(Place, vertical_gives_each_a_contiguous_share_of_the_bytes) {
  EXPECT_EQ(place(blocks(6), servers(3), {.policy = PlacementPolicy::kVertical, .replicas = 1}),
            one_each({0, 0, 1, 1, 2, 2}));
  std::vector<PlaceBlock> uneven = blocks(4, 1 << 20);
  uneven[0].size_bytes = 3 << 20;
  EXPECT_EQ(place(uneven, servers(2), {.policy = PlacementPolicy::kVertical, .replicas = 1}),
            one_each({0, 1, 1, 1}));
}

TEST(Place, hybrid_takes_blocks_in_turn_from_where_the_rotation_begins) {
  EXPECT_EQ(place(blocks(4), servers(3), {.policy = PlacementPolicy::kHybrid, .replicas = 1}),
            one_each({0, 1, 2, 0}));
  EXPECT_EQ(place(blocks(4), servers(3), {.policy = PlacementPolicy::kHybrid, .replicas = 1, .rotation = 2}),
            one_each({2, 0, 1, 2}));
}

TEST(Place, replicas_go_to_other_domains_where_there_are_any) {
  auto all = servers(4);
  all[0].failure_domain = all[1].failure_domain = "rack-a";
  all[2].failure_domain = all[3].failure_domain = "rack-b";
  EXPECT_EQ(place(blocks(1), all, {.replicas = 2}), (Placed{{0, 2}}));
  EXPECT_EQ(place(blocks(1), all, {.replicas = 3}), (Placed{{0, 2, 1}}));
  EXPECT_EQ(place(blocks(1), servers(1), {.replicas = 2}), (Placed{{0}}));
}

TEST(Place, blocks_that_are_held_already_are_not_sent_again) {
  auto b = blocks(3);
  b[0].held_by = {0, 1};
  b[1].held_by = {1};
  EXPECT_EQ(place(b, servers(2), {.replicas = 2}), (Placed{{}, {0}, {0, 1}}));
}

TEST(Place, a_full_server_is_passed_over) {
  auto all = servers(3);
  all[1].free_bytes = 4 << 20;
  EXPECT_EQ(place(blocks(5), all, {.replicas = 1}), one_each({0, 1, 2, 0, 2}));
}

TEST(Place, what_does_not_fit_is_refused_with_needed_and_free) {
  const auto refused = place_blocks(blocks(3), servers(2, 4 << 20), {.replicas = 2});
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_THAT(refused.status().message(),
              HasSubstr("24.0 MiB needed for 2 replicas of new blocks, 8.0 MiB free on 2 servers"));
}

TEST(Place, senseless_arguments_are_refused) {
  EXPECT_TRUE(absl::IsUnavailable(place_blocks(blocks(1), {}, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(place_blocks(blocks(1, 0), servers(1), {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(place_blocks(blocks(1), servers(1), {.replicas = 0}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(place_blocks(blocks(1), servers(1), {.group_bytes = 0}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(place_blocks(std::vector{PlaceBlock{1, {5}}}, servers(1), {}).status()));
  EXPECT_FALSE(placement_policy_from_name("diagonal").ok());
  EXPECT_TRUE(place_blocks({}, servers(1), {})->empty());
}

RC_GTEST_PROP(PlaceProperty, replicas_are_distinct_capacity_holds_and_refusals_are_true, ()) {
  const size_t count = *rc::gen::inRange<size_t>(1, 6);
  std::vector<PlaceServer> all = servers(count);
  for (PlaceServer& server : all) {
    server.free_bytes = *rc::gen::inRange<uint64_t>(0, 40) << 20;
    server.failure_domain = *rc::gen::element<std::string>("", "a", "b");
  }
  std::vector<PlaceBlock> b = blocks(*rc::gen::inRange<size_t>(0, 12));
  for (PlaceBlock& block : b) {
    block.size_bytes = *rc::gen::inRange<uint32_t>(1, 4 << 20);
    if (*rc::gen::inRange(0, 3) == 0) block.held_by = {*rc::gen::inRange<uint32_t>(0, count)};
  }
  PlaceOptions options;
  options.policy = static_cast<PlacementPolicy>(*rc::gen::inRange(0, 4));
  options.replicas = *rc::gen::inRange(1, 4);
  options.rotation = *rc::gen::inRange(0, 10);
  const auto placed = place_blocks(b, all, options);
  RC_ASSERT(placed == place_blocks(b, all, options));
  if (!placed.ok()) {
    RC_ASSERT(absl::IsResourceExhausted(placed.status()));
    return;
  }
  const size_t wanted = std::min<size_t>(options.replicas, count);
  std::vector<uint64_t> used(count, 0);
  for (size_t i = 0; i < b.size(); ++i) {
    std::set<uint32_t> holders(b[i].held_by.begin(), b[i].held_by.end());
    for (uint32_t server : (*placed)[i]) {
      RC_ASSERT(server < count && holders.insert(server).second);
      used[server] += round_up(b[i].size_bytes, kBlockAlignBytes);
    }
    RC_ASSERT(holders.size() == std::max(wanted, b[i].held_by.size()));
  }
  for (size_t i = 0; i < count; ++i) RC_ASSERT(used[i] <= all[i].free_bytes);
}

}  // namespace
}  // namespace cenote
