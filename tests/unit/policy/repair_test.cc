// Goal: copies go where they help most and nowhere else, within their limits; what goes again is never needed.
// Method: scripts for each rule, and random clusters against the limits.
#include "policy/repair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

namespace cenote::policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<RepairServer> sound(size_t count) {
  std::vector<RepairServer> servers;
  for (size_t i = 0; i < count; ++i) {
    servers.push_back({.name = "memory-" + std::to_string(i), .standing = Standing::kSound, .takes = true, .free_bytes = 64 * kMiB});
  }
  return servers;
}

RepairBlock block(std::vector<uint32_t> holders, uint32_t size_bytes = kMiB) { return {.size_bytes = size_bytes, .holders = std::move(holders), .failed = {}}; }

std::vector<RepairCopy> plan(const std::vector<RepairBlock>& blocks, const std::vector<RepairServer>& servers, RepairLimits limits = {}, uint32_t under_way = 0) {
  return plan_copies(blocks, servers, limits, under_way);
}

TEST(RepairTest, a_server_that_is_away_counts_and_one_that_leaves_or_is_shunned_does_not) {
  std::vector<RepairServer> servers = sound(5);
  servers[1].standing = Standing::kAway;
  servers[2].standing = Standing::kLeaving;
  servers[3].standing = Standing::kShunned;
  servers[4].standing = Standing::kGone;
  const std::vector<uint32_t> all = {0, 1, 2, 3, 4};
  const Replicas replicas = count_replicas(all, servers);
  EXPECT_EQ(replicas.counted, 2u);
  EXPECT_EQ(replicas.sound, 1u);
  EXPECT_EQ(replicas.readable, 3u);
  EXPECT_EQ(wanted_replicas(3, servers), 2u) << "no more than there are servers that count";
  EXPECT_EQ(wanted_replicas(1, servers), 1u);
}

TEST(RepairTest, a_copy_goes_to_the_emptiest_server_that_has_none) {
  std::vector<RepairServer> servers = sound(4);
  servers[0].free_bytes = 128 * kMiB;  // It has one.
  servers[3].free_bytes = 65 * kMiB;
  const auto copies = plan({block({0})}, servers);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].target, 3u);
  EXPECT_THAT(copies[0].sources, ElementsAre(0));
}

TEST(RepairTest, a_failure_domain_without_a_replica_comes_first_and_another_server_will_do_where_there_is_none) {
  std::vector<RepairServer> servers = sound(4);
  for (const uint32_t i : {0, 1, 2}) servers[i].failure_domain = "rack-0";
  servers[3].failure_domain = "rack-1";
  servers[3].free_bytes = 2 * kMiB;
  EXPECT_EQ(plan({block({0})}, servers)[0].target, 3u);
  servers[3].free_bytes = 0;
  EXPECT_EQ(plan({block({0})}, servers)[0].target, 1u);
}

TEST(RepairTest, a_domain_that_only_a_gone_server_was_in_is_without_a_replica) {
  std::vector<RepairServer> servers = sound(4);
  servers[0].failure_domain = servers[2].failure_domain = "rack-0";
  servers[1].failure_domain = servers[3].failure_domain = "rack-1";
  servers[3].free_bytes = kMiB;
  servers[1].standing = Standing::kGone;
  EXPECT_EQ(plan({block({0, 1})}, servers)[0].target, 3u);
}

TEST(RepairTest, servers_that_are_full_leaving_shunned_or_take_nothing_get_no_copies) {
  std::vector<RepairServer> servers = sound(5);
  servers[1].standing = Standing::kLeaving;
  servers[2].standing = Standing::kShunned;
  servers[3].free_bytes = kMiB - 4096;
  servers[4].takes = false;
  EXPECT_THAT(plan({block({0})}, servers), IsEmpty());
}

TEST(RepairTest, sound_sources_are_read_before_leaving_and_shunned_ones_and_the_gone_not_at_all) {
  std::vector<RepairServer> servers = sound(6);
  servers[0].standing = Standing::kShunned;
  servers[1].standing = Standing::kLeaving;
  servers[2].standing = Standing::kGone;
  servers[3].standing = Standing::kAway;
  EXPECT_THAT(plan({block({0, 1, 2, 3, 4})}, servers)[0].sources, ElementsAre(4, 1, 0));
  EXPECT_THAT(plan({block({2, 3})}, servers), IsEmpty()) << "nobody to read from";
}

TEST(RepairTest, sources_share_the_work) {
  const std::vector<RepairServer> servers = sound(4);
  const auto copies = plan({block({0, 1}), block({0, 1}), block({0, 1}), block({0, 1})}, servers);
  std::map<uint32_t, int> reads, writes;
  for (const RepairCopy& copy : copies) ++reads[copy.sources[0]], ++writes[copy.target];
  EXPECT_EQ(reads, (std::map<uint32_t, int>{{0, 2}, {1, 2}}));
  EXPECT_EQ(writes, (std::map<uint32_t, int>{{2, 2}, {3, 2}}));
}

TEST(RepairTest, the_server_that_failed_is_chosen_last) {
  std::vector<RepairServer> servers = sound(3);
  servers[1].free_bytes = 128 * kMiB;
  RepairBlock again = block({0});
  again.failed = 1;
  EXPECT_EQ(plan({again}, servers)[0].target, 2u);
  servers[2].standing = Standing::kGone;
  EXPECT_EQ(plan({again}, servers)[0].target, 1u);
}

TEST(RepairTest, the_first_blocks_come_first_and_limits_hold) {
  std::vector<RepairServer> servers = sound(2);
  servers[1].copies_in = 1;
  servers[1].bytes_in = kMiB;
  const std::vector<RepairBlock> blocks(5, block({0}));
  EXPECT_EQ(plan(blocks, servers, {.copies_per_server = 3}).size(), 2u);
  EXPECT_EQ(plan(blocks, servers, {.bytes_per_server = 4 * kMiB}).size(), 3u);
  EXPECT_EQ(plan(blocks, servers, {.copies = 7}, 3).size(), 4u);
  const auto copies = plan(blocks, servers, {.copies = 4}, 3);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].block, 0u);
  servers[1].copies_in = 0;
  EXPECT_EQ(plan(blocks, servers, {.bytes_per_server = kMiB / 2}).size(), 1u) << "a limit below a block's size does not stop repair";
}

TEST(RepairTest, the_fullest_of_those_that_share_a_domain_loses_what_is_too_many) {
  std::vector<RepairServer> servers = sound(3);
  servers[0].failure_domain = servers[2].failure_domain = "rack-0";
  servers[1].free_bytes = kMiB;
  servers[2].free_bytes = 2 * kMiB;
  const std::vector<uint32_t> all = {0, 1, 2};
  EXPECT_EQ(choose_surplus(all, servers, 2), 2u) << "memory-1 is fuller, and alone in its domain";
  EXPECT_EQ(choose_surplus(all, servers, 3), std::nullopt);
  servers[0].standing = Standing::kAway;
  EXPECT_EQ(choose_surplus(all, servers, 2), std::nullopt) << "it may not come back";
  servers[0] = servers[2];
  servers[0].takes = false;
  EXPECT_EQ(choose_surplus(all, servers, 2), std::nullopt) << "what it holds is only believed just now";
  EXPECT_EQ(choose_surplus(std::vector<uint32_t>{1}, servers, 0), std::nullopt) << "never the last";
}

RC_GTEST_PROP(RepairPropertyTest, no_limit_is_passed_and_no_copy_is_in_vain, ()) {
  const auto count = *rc::gen::inRange<uint32_t>(1, 8);
  std::vector<RepairServer> servers = sound(count);
  for (RepairServer& server : servers) {
    server.standing = static_cast<Standing>(*rc::gen::inRange(0, 5));
    server.takes = *rc::gen::inRange(0, 4) != 0;
    server.free_bytes = *rc::gen::inRange<uint64_t>(0, 12) * kMiB;
    server.failure_domain = *rc::gen::element<std::string>("", "a", "b");
  }
  std::vector<RepairBlock> blocks(*rc::gen::inRange<size_t>(0, 40));
  for (RepairBlock& b : blocks) {
    b.size_bytes = *rc::gen::inRange<uint32_t>(1, 4 << 20);
    for (uint32_t i = 0; i < count; ++i) {
      if (*rc::gen::inRange(0, 3) == 0) b.holders.push_back(i);
    }
  }
  const RepairLimits limits{.copies_per_server = *rc::gen::inRange<uint32_t>(1, 6), .bytes_per_server = *rc::gen::inRange<uint64_t>(4, 20) * kMiB,
                            .copies = *rc::gen::inRange<uint32_t>(1, 20)};
  std::map<uint32_t, uint64_t> in, out, bytes_in, bytes_out, room;
  const auto copies = plan_copies(blocks, servers, limits, 0);
  RC_ASSERT(copies.size() <= limits.copies);
  for (const RepairCopy& copy : copies) {
    const RepairBlock& b = blocks[copy.block];
    RC_ASSERT(std::find(b.holders.begin(), b.holders.end(), copy.target) == b.holders.end());
    RC_ASSERT(servers[copy.target].standing == Standing::kSound && servers[copy.target].takes);
    for (const uint32_t source : copy.sources) {
      RC_ASSERT(std::find(b.holders.begin(), b.holders.end(), source) != b.holders.end());
      RC_ASSERT(servers[source].standing != Standing::kGone && servers[source].standing != Standing::kAway);
    }
    ++in[copy.target], ++out[copy.sources.at(0)];
    bytes_in[copy.target] += b.size_bytes, bytes_out[copy.sources[0]] += b.size_bytes;
    room[copy.target] += round_up(b.size_bytes, kBlockAlignBytes);
  }
  for (uint32_t i = 0; i < count; ++i) {
    RC_ASSERT(in[i] <= limits.copies_per_server && out[i] <= limits.copies_per_server);
    RC_ASSERT(bytes_in[i] <= limits.bytes_per_server && bytes_out[i] <= limits.bytes_per_server);
    RC_ASSERT(room[i] <= servers[i].free_bytes);
  }
}

}  // namespace
}  // namespace cenote::policy
