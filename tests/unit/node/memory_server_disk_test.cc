// Goal: with a disk, a seal is answered when its blocks are on it; the arena holds what is asked for and lets go of what is not; grants wait
// for what is read back, never for ever; what is bad or refused is said and costs nothing else.
// Method: scripts against the state machine, with a world whose disk answers at once or when the test lets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/memory_server_world.h"

namespace cenote::node {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using World = MemoryWorld;

constexpr uint32_t kLarge = 2 * kMiB;  // Four fill the arena.

// Blocks first .. first + count - 1 on disk only.
MemoryServerOptions restarted(uint32_t first, uint32_t count, uint32_t size = kLarge) {
  MemoryServerOptions options = World::with_disk();
  for (uint32_t n = first; n < first + count; ++n) options.stored.push_back({.id = id_of(n), .size_bytes = size});
  return options;
}

TEST(MemoryServerDiskTest, which_catalogue_its_blocks_came_under_survives_a_restart) {
  MemoryServerOptions options = World::with_disk();
  options.awaits_lineage = true;
  World world(options);
  world.feed(LineageTold{.lineage = 77, .sequence = 5});
  world.feed(LineageTold{.lineage = 77, .sequence = 5});
  ASSERT_EQ(world.remembered.size(), 1u) << "what is known already is not written again";
  options.lineage = world.remembered[0].lineage;
  options.lineage_sequence = world.remembered[0].sequence;
  World next(options);
  MemberReport report;
  next.server.fill_report(next.now, true, report);
  EXPECT_EQ(report.lineage, 77u);
  EXPECT_EQ(report.lineage_sequence, 5u);
}

TEST(MemoryServerDiskTest, a_seal_is_answered_only_when_its_blocks_are_on_disk) {
  World world(World::with_disk());
  world.hold_disk = true;
  const auto slab = world.open(4096);
  world.feed(SealAsked{50, slab->slab, 7, {{0, {id_of(1), 4096}}}});
  EXPECT_FALSE(world.seal_replies.contains(50));
  ASSERT_EQ(world.writes.size(), 1u);
  EXPECT_TRUE(std::get<CopyAndHash>(world.writes.front()).store);
  world.write_next();
  EXPECT_TRUE(world.seal_replies.at(50).ok());
  EXPECT_TRUE(world.on_disk(1) && world.in_arena(1));
}

TEST(MemoryServerDiskTest, what_was_stored_is_reported_at_once_after_a_restart_and_granted_when_asked) {
  World world(restarted(1, 3));
  const MemberReport report = world.report(true);
  EXPECT_EQ(report.held.size(), 3u);
  EXPECT_TRUE(report.storage.disk);
  EXPECT_EQ(report.memory.used_bytes, 3 * stored_bytes(kLarge));
  EXPECT_EQ(report.memory.capacity_bytes, 64 * kMiB);
  EXPECT_EQ(report.storage.arena_used_bytes, 0u);
  const auto grant = world.grant({1, 9}, Duration::from_ms(500));
  EXPECT_TRUE(grant->blocks.empty()) << "9 is missing, which is worth an answer at once";
  EXPECT_EQ(grant->missing, std::vector<Digest>{id_of(9)});
  EXPECT_EQ(world.grant({1}, Duration::from_ms(500))->blocks.size(), 1u) << "it was read back meanwhile";
}

TEST(MemoryServerDiskTest, a_grant_for_what_is_on_disk_waits_until_it_was_read_and_is_not_shortened_by_that) {
  World world(restarted(1, 1));
  world.hold_disk = true;
  const CallId call = world.ask({1}, Duration::from_ms(800));
  EXPECT_FALSE(world.grant_replies.contains(call));
  world.wait(Duration::from_ms(300));
  world.load_one(0);
  ASSERT_TRUE(world.grant_replies.contains(call));
  EXPECT_EQ(world.grant_replies.at(call)->blocks.size(), 1u);
  EXPECT_EQ(world.grant_replies.at(call)->duration, Duration::from_ms(1300));
}

TEST(MemoryServerDiskTest, a_grant_that_waited_as_long_as_it_may_is_answered_without_what_is_not_there) {
  World world(restarted(1, 1));
  world.hold_disk = true;
  const CallId call = world.ask({1}, Duration::from_ms(400));
  EXPECT_EQ(world.server.next_deadline(), world.now + Duration::from_ms(400));
  world.wait(Duration::from_ms(400));
  ASSERT_TRUE(world.grant_replies.contains(call));
  EXPECT_TRUE(world.grant_replies.at(call)->blocks.empty() && world.grant_replies.at(call)->missing.empty());
  const CallId impatient = world.ask({1});
  EXPECT_TRUE(world.grant_replies.contains(impatient)) << "who allows no wait gets none";
}

TEST(MemoryServerDiskTest, the_longest_ungranted_block_makes_room_and_comes_back_when_asked) {
  World world(World::with_disk());
  for (uint32_t n = 1; n <= 4; ++n) ASSERT_TRUE(world.write({n}, kLarge).ok());
  ASSERT_TRUE(world.grant({1}).ok());
  world.wait(Duration::from_ms(2000));
  ASSERT_TRUE(world.write({5}, kLarge).ok());
  EXPECT_FALSE(world.in_arena(2));
  EXPECT_TRUE(world.in_arena(1) && world.in_arena(5) && world.on_disk(2));
  EXPECT_TRUE(world.report(false).dropped.empty()) << "it is still held";
  EXPECT_EQ(world.grant({2}, Duration::from_ms(500))->blocks.size(), 1u);
}

TEST(MemoryServerDiskTest, blocks_under_a_live_grant_stay_and_a_seal_goes_to_disk_alone) {
  World world(World::with_disk());
  for (uint32_t n = 1; n <= 4; ++n) ASSERT_TRUE(world.write({n}, kLarge).ok());
  ASSERT_TRUE(world.grant({1, 2, 3, 4}).ok());
  ASSERT_TRUE(world.write({5}, kLarge).ok());
  EXPECT_TRUE(world.on_disk(5));
  EXPECT_FALSE(world.in_arena(5));
  for (uint32_t n = 1; n <= 4; ++n) EXPECT_TRUE(world.in_arena(n));
}

TEST(MemoryServerDiskTest, a_grant_waits_for_other_grants_to_end_when_they_cover_the_arena) {
  World world(restarted(1, 5));
  ASSERT_EQ(world.grant({1, 2, 3, 4}, Duration::from_ms(500))->blocks.size(), 4u);
  const CallId call = world.ask({5}, Duration::from_seconds(5));
  EXPECT_FALSE(world.grant_replies.contains(call));
  EXPECT_GT(world.server.next_deadline(), world.now);
  world.wait(Duration::from_ms(990));
  EXPECT_FALSE(world.grant_replies.contains(call)) << "those grants live";
  world.wait(Duration::from_ms(15));
  ASSERT_TRUE(world.grant_replies.contains(call)) << "the answer is due after kGrantWaitMax in any case";
  EXPECT_EQ(world.grant({5}, Duration::from_ms(500))->blocks.size(), 1u);
}

TEST(MemoryServerDiskTest, who_waits_for_room_gets_it_when_the_first_grant_ends_not_only_at_his_deadline) {
  World world(restarted(1, 5));
  ASSERT_EQ(world.grant({1, 2, 3, 4}, Duration::from_ms(500))->blocks.size(), 4u);
  world.wait(Duration::from_ms(500));
  const CallId call = world.ask({5}, Duration::from_ms(900));
  EXPECT_FALSE(world.grant_replies.contains(call));
  EXPECT_LT(world.server.next_deadline(), world.now + Duration::from_ms(600));
  world.wait(world.server.next_deadline() - world.now);
  ASSERT_TRUE(world.grant_replies.contains(call));
  EXPECT_EQ(world.grant_replies.at(call)->blocks.size(), 1u);
}

TEST(MemoryServerDiskTest, a_model_larger_than_the_arena_is_granted_piece_by_piece) {
  World world(restarted(0, 12));
  std::set<Digest> got;
  int calls = 0;
  while (got.size() < 12 && ++calls < 100) {
    std::vector<uint32_t> rest;
    for (uint32_t n = 0; n < 12; ++n) {
      if (!got.contains(id_of(n))) rest.push_back(n);
    }
    const CallId call = world.ask(rest, Duration::from_ms(500));
    for (int i = 0; i < 20 && !world.grant_replies.contains(call); ++i) world.wait(Duration::from_ms(50));
    ASSERT_TRUE(world.grant_replies.contains(call));
    for (const BlockGrant& block : world.grant_replies.at(call)->blocks) got.insert(block.id);
  }
  EXPECT_EQ(got.size(), 12u);
  EXPECT_LT(calls, 30) << "each call waits for news: no busy loop";
}

TEST(MemoryServerDiskTest, what_was_read_back_for_somebody_stays_until_he_had_time_to_ask_again) {
  World world(restarted(1, 1));
  ASSERT_TRUE(world.grant({9, 1}).ok());
  for (uint32_t n = 2; n <= 6; ++n) ASSERT_TRUE(world.write({n}, kLarge).ok());
  EXPECT_TRUE(world.in_arena(1));
  world.wait(Duration::from_ms(1100));
  for (uint32_t n = 7; n <= 10; ++n) ASSERT_TRUE(world.write({n}, kLarge).ok());
  EXPECT_FALSE(world.in_arena(1)) << "but no longer";
}

TEST(MemoryServerDiskTest, those_who_came_first_get_room_first) {
  World world(restarted(1, 6));
  world.hold_disk = true;
  const CallId first = world.ask({1, 2}, Duration::from_ms(900)), second = world.ask({3}, Duration::from_ms(900));
  ASSERT_EQ(world.loads.size(), 2u) << "the window is full: one block of the largest size";
  EXPECT_EQ(world.loads.at(1).block.id, id_of(2));
  world.load_one(0);
  EXPECT_EQ(world.loads.at(1).block.id, id_of(3));
  EXPECT_FALSE(world.grant_replies.contains(first)) << "more of it is on its way";
  world.load_one(0);
  EXPECT_EQ(world.grant_replies.at(first)->blocks.size(), 2u);
  world.load_one(0);
  EXPECT_EQ(world.grant_replies.at(second)->blocks.size(), 1u);
}

TEST(MemoryServerDiskTest, a_bad_copy_found_on_load_is_set_aside_reported_and_never_granted) {
  World world(restarted(1, 2));
  world.files[id_of(1)] = false;
  const auto grant = world.grant({1}, Duration::from_ms(500));
  EXPECT_EQ(grant->missing, std::vector<Digest>{id_of(1)});
  EXPECT_TRUE(world.aside.contains(id_of(1)));
  const MemberReport report = world.report(false);
  EXPECT_EQ(report.dropped, std::vector<Digest>{id_of(1)});
  EXPECT_EQ(report.storage.corrupt_blocks, 1u);
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
  ASSERT_TRUE(world.write({1}, kLarge).ok()) << "and it can be written anew";
  EXPECT_EQ(world.grant({1})->blocks.size(), 1u);
}

TEST(MemoryServerDiskTest, a_disk_that_cannot_be_read_just_now_loses_nothing) {
  World world(restarted(1, 1));
  world.disk_reads = absl::ResourceExhaustedError("Too many open files");
  const auto grant = world.grant({1}, Duration::from_ms(500));
  EXPECT_TRUE(grant->blocks.empty() && grant->missing.empty());
  EXPECT_THAT(world.report(false).notes, testing::ElementsAre(HasSubstr("Too many open files")));
  world.disk_reads = absl::OkStatus();
  EXPECT_EQ(world.grant({1}, Duration::from_ms(500))->blocks.size(), 1u);
  EXPECT_TRUE(world.report(false).notes.empty());
}

TEST(MemoryServerDiskTest, a_seal_that_the_disk_refuses_leaves_nothing_and_the_server_says_so_and_serves_on) {
  World world(World::with_disk());
  ASSERT_TRUE(world.write({1}).ok());
  world.disk_writes = absl::ResourceExhaustedError("No space left on device");
  EXPECT_EQ(world.write({2, 3}).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(world.server.blocks().used_bytes(), 4096u);
  EXPECT_EQ(world.files.size(), 1u);
  EXPECT_EQ(world.grant({1, 2})->blocks.size(), 1u);
  MemberReport report = world.report(false);
  EXPECT_THAT(report.notes, testing::ElementsAre(HasSubstr("No space left on device")));
  EXPECT_EQ(report.memory.used_bytes, report.memory.capacity_bytes) << "deploys go elsewhere for a while";
  world.wait(MemoryServer::kDiskRetry);
  EXPECT_EQ(world.report(false).memory.used_bytes, stored_bytes(4096));
  world.disk_writes = absl::OkStatus();
  ASSERT_TRUE(world.write({2}).ok());
  EXPECT_TRUE(world.report(false).notes.empty());
}

TEST(MemoryServerDiskTest, data_capacity_is_kept_with_seals_under_way_counted_and_named_in_the_refusal) {
  World world(World::with_disk(3 * stored_bytes(4096)));
  world.hold_disk = true;
  const auto a = world.open(4096 * 2), b = world.open(4096 * 2);
  world.feed(SealAsked{50, a->slab, 7, {{0, {id_of(1), 4096}}, {4096, {id_of(2), 4096}}}});
  world.feed(SealAsked{51, b->slab, 7, {{0, {id_of(3), 4096}}, {4096, {id_of(4), 4096}}}});
  ASSERT_EQ(world.seal_replies.at(51).status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(world.seal_replies.at(51).status().message()), HasSubstr("raise `data_capacity`"));
  world.hold_disk = false;
  world.write_next();
  EXPECT_TRUE(world.seal_replies.at(50).ok());
  EXPECT_TRUE(world.write({3}).ok()) << "what the refused seal reserved is free again";
  EXPECT_EQ(world.write({4}).status().code(), StatusCode::kResourceExhausted);
}

TEST(MemoryServerDiskTest, dropped_blocks_leave_the_disk_and_a_load_under_way_counts_for_nothing) {
  World world(restarted(1, 1));
  world.hold_disk = true;
  const CallId call = world.ask({1}, Duration::from_ms(900));
  world.feed(BlocksDropped{{id_of(1)}});
  EXPECT_EQ(world.grant_replies.at(call)->missing.size(), 1u) << "no longer worth waiting for";
  world.load_one(0);
  EXPECT_FALSE(world.in_arena(1));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
  world.write_next();
  EXPECT_TRUE(world.files.empty());
}

TEST(MemoryServerDiskTest, a_file_is_not_removed_while_another_seal_of_its_block_is_under_way) {
  World world(World::with_disk());
  world.hold_disk = true;
  const auto a = world.open(4096), b = world.open(4096);
  world.feed(SealAsked{50, a->slab, 7, {{0, {id_of(1), 4096}}}});
  world.feed(SealAsked{51, b->slab, 7, {{0, {id_of(1), 4096}}}});
  world.write_next();  // The first: on disk, acknowledged.
  const CopyAndHash second = std::get<CopyAndHash>(world.writes.front());
  world.files[id_of(1)] = true;  // The second wrote it too, and its word is still on the way.
  world.writes.clear();
  world.feed(BlocksDropped{{id_of(1)}});
  EXPECT_TRUE(world.writes.empty());
  world.feed(SealVerified{second.slab, absl::OkStatus()});
  EXPECT_TRUE(world.seal_replies.at(51).ok());
  EXPECT_TRUE(world.on_disk(1) && world.files.contains(id_of(1)));
}

TEST(MemoryServerDiskTest, a_draining_server_answers_those_who_wait) {
  World world(restarted(1, 1));
  world.hold_disk = true;
  const CallId call = world.ask({1}, Duration::from_ms(900));
  world.feed(DrainAsked{});
  EXPECT_EQ(world.grant_replies.at(call).status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace cenote::node
