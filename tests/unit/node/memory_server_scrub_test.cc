// Goal: every copy is looked at once per interval, evenly; a bad one is replaced by a good one or reported, never granted.
// Method: scripts against the state machine, with copies that rot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/memory_server_world.h"

namespace cenote::node {
namespace {

using World = MemoryWorld;

MemoryServerOptions scrubbed(bool disk, Duration interval = Duration::from_ms(1000)) {
  MemoryServerOptions options = disk ? World::with_disk() : World::defaults();
  options.scrub_interval = interval;
  return options;
}

// As a role does: at each deadline, for `duration`.
void live(World& world, Duration duration) {
  const Instant end = world.now + duration;
  while (world.server.next_deadline() < end) world.wait(std::max(Duration{1}, world.server.next_deadline() - world.now));
  if (world.now < end) world.wait(end - world.now);
}

TEST(MemoryServerScrubTest, each_block_is_looked_at_once_in_an_interval_and_an_empty_server_sleeps) {
  World world(scrubbed(true));
  EXPECT_EQ(world.server.next_deadline(), Instant::infinite_future());
  ASSERT_TRUE(world.write({1, 2, 3, 4}).ok());
  live(world, Duration::from_ms(10'000));
  EXPECT_GE(world.scrubs, 36u);
  EXPECT_LE(world.scrubs, 48u);
  EXPECT_EQ(world.report(false).storage.scrubbed_bytes, world.scrubs * 2 * 4096);
}

TEST(MemoryServerScrubTest, zero_is_never) {
  World world(scrubbed(true, {}));
  ASSERT_TRUE(world.write({1}).ok());
  EXPECT_EQ(world.server.next_deadline(), Instant::infinite_future());
}

TEST(MemoryServerScrubTest, a_rotten_copy_on_disk_is_written_anew_from_the_arena) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1, 2}).ok());
  world.report(false);
  world.files[id_of(1)] = false;
  live(world, Duration::from_ms(1500));
  EXPECT_TRUE(world.files.at(id_of(1))) << "whole again";
  EXPECT_TRUE(world.on_disk(1) && world.aside.contains(id_of(1)));
  const MemberReport report = world.report(false);
  EXPECT_TRUE(report.dropped.empty());
  EXPECT_EQ(report.storage.corrupt_blocks, 1u);
}

TEST(MemoryServerScrubTest, while_the_disk_refuses_the_good_copy_it_stays_in_the_arena_and_is_tried_again) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1}, 2 * kMiB).ok());
  world.files[id_of(1)] = false;
  world.disk_writes = absl::UnavailableError("Input/output error");
  live(world, Duration::from_ms(1500));
  EXPECT_FALSE(world.on_disk(1));
  EXPECT_TRUE(world.in_arena(1));
  world.disk_writes = absl::OkStatus();
  for (uint32_t n = 2; n <= 6; ++n) ASSERT_TRUE(world.write({n}, 2 * kMiB).ok());
  EXPECT_TRUE(world.in_arena(1)) << "the only copy is never evicted";
  live(world, Duration::from_ms(3000));
  EXPECT_TRUE(world.on_disk(1));
}

TEST(MemoryServerScrubTest, a_rotten_copy_in_the_arena_is_replaced_from_disk_and_not_granted_again) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1}).ok());
  world.rot_arena(1);
  live(world, Duration::from_ms(1500));
  EXPECT_FALSE(world.in_arena(1));
  EXPECT_TRUE(world.on_disk(1));
  const auto grant = world.grant({1}, Duration::from_ms(500));
  ASSERT_EQ(grant->blocks.size(), 1u);
  EXPECT_FALSE(world.rotten.contains(grant->blocks[0].offset_bytes));
}

TEST(MemoryServerScrubTest, without_another_copy_a_rotten_block_is_dropped_and_reported) {
  World world(scrubbed(false));
  ASSERT_TRUE(world.write({1, 2}).ok());
  world.report(false);
  world.rot_arena(1);
  live(world, Duration::from_ms(1500));
  EXPECT_FALSE(world.in_arena(1));
  EXPECT_TRUE(world.in_arena(2));
  const MemberReport report = world.report(false);
  EXPECT_EQ(report.dropped, std::vector<Digest>{id_of(1)});
  EXPECT_EQ(report.storage.corrupt_blocks, 1u);
}

TEST(MemoryServerScrubTest, both_copies_rotten_is_a_lost_block_and_its_granted_bytes_are_not_reused) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1}, 2 * kMiB).ok());
  world.report(false);
  world.rot_arena(1);
  world.files[id_of(1)] = false;
  world.wait(Duration::from_ms(900));
  ASSERT_TRUE(world.grant({1}).ok());
  live(world, Duration::from_ms(500));
  EXPECT_EQ(world.report(false).dropped, std::vector<Digest>{id_of(1)});
  EXPECT_EQ(world.server.blocks().used_bytes(), 2 * kMiB) << "a reader may still be at it; its own sums tell it";
  live(world, Duration::from_ms(2000));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
}

TEST(MemoryServerScrubTest, what_was_found_of_a_file_that_was_replaced_since_counts_for_nothing) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1}).ok());
  world.hold_disk = true;
  live(world, Duration::from_ms(1500));
  ASSERT_TRUE(world.held_scrub.has_value());
  world.hold_disk = false;
  world.feed(BlocksDropped{{id_of(1)}});
  ASSERT_TRUE(world.write({1}).ok());
  world.held_scrub.reset();
  world.feed(BlockScrubbed{.disk = absl::DataLossError("the old file"), .arena = absl::OkStatus()});
  EXPECT_TRUE(world.on_disk(1) && world.files.contains(id_of(1)));
  EXPECT_EQ(world.report(false).storage.corrupt_blocks, 0u);
}

TEST(MemoryServerScrubTest, a_block_dropped_while_it_is_looked_at_keeps_its_bytes_until_then) {
  World world(scrubbed(true));
  ASSERT_TRUE(world.write({1}, 2 * kMiB).ok());
  world.hold_disk = true;
  live(world, Duration::from_ms(1500));
  ASSERT_TRUE(world.held_scrub.has_value());
  world.feed(BlocksDropped{{id_of(1)}});
  EXPECT_EQ(world.server.blocks().used_bytes(), 2 * kMiB);
  world.scrub_now();
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
  EXPECT_EQ(world.report(false).storage.corrupt_blocks, 0u);
}

}  // namespace
}  // namespace cenote::node
