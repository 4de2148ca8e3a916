// Goal: a copy that is ordered is held with the right bytes, or reported as failed; it never costs what is there.
// Method: scripts against the state machine, with sources that fail, lie or come late.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/memory_server_world.h"

namespace cenote::node {
namespace {

using World = MemoryWorld;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(MemoryServerCopyTest, a_copy_is_read_checked_held_and_reported) {
  for (const bool disk : {false, true}) {
    World world(disk ? World::with_disk() : World::defaults());
    world.report(true);
    world.order({1});
    ASSERT_EQ(world.fetches.size(), 1u);
    EXPECT_EQ(world.fetches[0].source.name, "memory-1");
    EXPECT_FALSE(world.in_arena(1));
    world.arrive();
    EXPECT_TRUE(world.in_arena(1));
    EXPECT_EQ(world.on_disk(1), disk);
    EXPECT_TRUE(world.server.changed());
    const MemberReport report = world.report(false);
    EXPECT_THAT(report.held, ElementsAre(BlockRef{id_of(1), 4096}));
    EXPECT_THAT(report.copies_failed, IsEmpty());
    EXPECT_EQ(world.grant({1})->blocks.size(), 1u);
  }
}

TEST(MemoryServerCopyTest, a_source_that_fails_or_gives_wrong_bytes_is_followed_by_the_next) {
  World world;
  world.order({1}, {"memory-1", "memory-2", "memory-3"});
  world.arrive(absl::UnavailableError("gone"));
  EXPECT_EQ(world.fetches[0].source.name, "memory-2");
  world.arrive(absl::OkStatus(), false);
  EXPECT_EQ(world.fetches[0].source.name, "memory-3");
  world.arrive();
  EXPECT_TRUE(world.in_arena(1));
  const MemberReport report = world.report(false);
  EXPECT_THAT(report.doubtful, ElementsAre(DoubtfulReplica{"memory-2", id_of(1)}));
  EXPECT_THAT(report.copies_failed, IsEmpty());
}

TEST(MemoryServerCopyTest, when_no_source_is_left_it_is_said_and_the_room_comes_back) {
  World world(World::with_disk());
  world.order({1});
  world.arrive(absl::UnavailableError("gone"));
  EXPECT_TRUE(world.server.changed());
  const MemberReport report = world.report(false);
  ASSERT_EQ(report.copies_failed.size(), 1u);
  EXPECT_EQ(report.copies_failed[0].block, id_of(1));
  EXPECT_THAT(report.copies_failed[0].why, HasSubstr("memory-1: gone"));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
  EXPECT_FALSE(world.server.changed());
  world.order({1});
  EXPECT_EQ(world.fetches.size(), 1u) << "and may be ordered again";
}

TEST(MemoryServerCopyTest, what_is_there_already_is_said_again) {
  World world;
  ASSERT_TRUE(world.write({1}).ok());
  world.report(false);
  world.order({1});
  EXPECT_TRUE(world.fetches.empty());
  EXPECT_THAT(world.report(false).held, ElementsAre(BlockRef{id_of(1), 4096}));
}

TEST(MemoryServerCopyTest, few_are_read_at_once_and_orders_that_did_not_begin_may_be_taken_back) {
  World world;
  world.order({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(world.fetches.size(), MemoryServer::kCopiesAtOnce);
  world.order({1, 2, 6});
  world.arrive();
  EXPECT_EQ(world.fetches.back().block.id, id_of(6));
  while (!world.fetches.empty()) world.arrive();
  EXPECT_FALSE(world.in_arena(5));
  for (const uint32_t n : {1, 2, 3, 4, 6}) EXPECT_TRUE(world.in_arena(n)) << n;
}

TEST(MemoryServerCopyTest, copies_keep_their_pace) {
  MemoryServerOptions options = World::defaults();
  options.copy_bytes_per_second = kMiB;
  World world(options);
  world.order({1, 2, 3}, {"memory-1"}, 512 * 1024);
  EXPECT_EQ(world.fetches.size(), 1u);
  world.arrive();
  EXPECT_TRUE(world.fetches.empty());
  EXPECT_EQ(world.server.next_deadline(), world.now + Duration::from_ms(500));
  world.wait(Duration::from_ms(500));
  EXPECT_EQ(world.fetches.size(), 1u);
}

TEST(MemoryServerCopyTest, a_full_server_says_so_and_keeps_what_it_has) {
  World world;
  ASSERT_TRUE(world.write({1}, 4 * kMiB).ok());
  ASSERT_TRUE(world.write({2}, 4 * kMiB).ok());
  world.order({3}, {"memory-1"}, 4 * kMiB);
  EXPECT_TRUE(world.fetches.empty());
  EXPECT_THAT(world.report(false).copies_failed.at(0).why, HasSubstr("no room"));
  EXPECT_TRUE(world.in_arena(1) && world.in_arena(2));
}

TEST(MemoryServerCopyTest, with_a_disk_it_waits_until_readers_let_go_of_what_is_on_disk_too) {
  World world(World::with_disk());
  ASSERT_TRUE(world.write({1}, 4 * kMiB).ok());
  ASSERT_TRUE(world.write({2}, 4 * kMiB).ok());
  ASSERT_TRUE(world.grant({1, 2}).ok());
  world.order({3}, {"memory-1"}, 4 * kMiB);
  EXPECT_TRUE(world.fetches.empty());
  EXPECT_LT(world.server.next_deadline(), Instant::infinite_future());
  world.wait(Duration::from_ms(1100));
  ASSERT_EQ(world.fetches.size(), 1u);
  world.arrive();
  EXPECT_TRUE(world.in_arena(3) && world.on_disk(3));
}

TEST(MemoryServerCopyTest, a_seal_that_brings_the_block_meanwhile_costs_nothing) {
  for (const bool disk : {false, true}) {
    World world(disk ? World::with_disk() : World::defaults());
    world.order({1});
    ASSERT_TRUE(world.write({1}).ok());
    world.arrive();
    EXPECT_TRUE(world.in_arena(1));
    EXPECT_EQ(world.server.blocks().used_bytes(), 4096u) << "once";
    world.feed(BlocksDropped{{id_of(1)}});
    EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
    EXPECT_FALSE(world.files.contains(id_of(1)));
  }
}

TEST(MemoryServerCopyTest, a_block_that_is_dropped_while_it_comes_does_not_stay) {
  World world(World::with_disk());
  world.hold_disk = true;
  world.order({1});
  world.arrive();
  world.feed(BlocksDropped{{id_of(1)}});
  while (!world.writes.empty()) world.write_next();
  EXPECT_FALSE(world.in_arena(1) || world.on_disk(1) || world.files.contains(id_of(1)));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
}

TEST(MemoryServerCopyTest, a_disk_that_refuses_is_no_fault_of_the_source) {
  World world(World::with_disk());
  world.disk_writes = absl::UnavailableError("Input/output error");
  world.order({1}, {"memory-1", "memory-2"});
  world.arrive();
  EXPECT_TRUE(world.fetches.empty());
  const MemberReport report = world.report(false);
  EXPECT_EQ(report.copies_failed.size(), 1u);
  EXPECT_THAT(report.doubtful, IsEmpty());
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
}

TEST(MemoryServerCopyTest, a_draining_server_begins_none) {
  World world;
  world.feed(DrainAsked{});
  world.order({1});
  EXPECT_TRUE(world.fetches.empty());
}

TEST(MemoryServerCopyTest, a_doubted_block_is_looked_at_at_once_and_goes_if_it_is_bad) {
  World world;  // Its scrubber is off.
  ASSERT_TRUE(world.write({1, 2}).ok());
  world.report(false);
  world.rot_arena(1);
  world.feed(ChecksWanted{{id_of(1), id_of(2), id_of(3)}});
  const MemberReport report = world.report(false);
  EXPECT_THAT(report.checked, testing::UnorderedElementsAre(id_of(1), id_of(2), id_of(3)));
  EXPECT_THAT(report.dropped, ElementsAre(id_of(1)));
  EXPECT_TRUE(world.in_arena(2));
}

}  // namespace
}  // namespace cenote::node
