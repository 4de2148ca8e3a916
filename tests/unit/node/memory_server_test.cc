// Goal: a memory server grants only what it holds, never reuses granted bytes, keeps a slab's blocks all or nothing, and answers
// every call exactly once.
// Method: a script of events against the state machine, with a world that registers, copies and hashes at once.
#include "node/memory_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "node/memory_server_world.h"

namespace cenote::node {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using World = MemoryWorld;

TEST(MemoryServerTest, no_slab_is_opened_before_a_controller_said_which_catalogue_it_has) {
  MemoryServerOptions options = World::defaults();
  options.awaits_lineage = true;
  World world(options);
  EXPECT_EQ(world.open(4096).status().code(), StatusCode::kUnavailable);
  world.feed(LineageTold{.lineage = 77, .sequence = 5});
  EXPECT_TRUE(world.open(4096).ok());
  EXPECT_TRUE(world.server.changed());
  MemberReport report;
  world.server.fill_report(world.now, false, report);
  EXPECT_EQ(report.lineage, 77u);
  EXPECT_EQ(report.lineage_sequence, 5u);
  EXPECT_FALSE(world.server.changed());
  world.feed(LineageTold{.lineage = 77, .sequence = 6});
  EXPECT_FALSE(world.server.changed()) << "how far it has come is said with the beats";
}

TEST(MemoryServerTest, sealed_blocks_can_be_granted_and_missing_ones_are_listed) {
  World world;
  const auto sealed = world.write({1, 2}, 5000);
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  EXPECT_EQ(sealed->sealed_bytes, 10000u);
  const auto grant = world.grant({1, 3, 2});
  ASSERT_TRUE(grant.ok());
  ASSERT_EQ(grant->blocks.size(), 2u);
  EXPECT_EQ(grant->blocks[0].id, id_of(1));
  EXPECT_EQ(grant->blocks[0].size_bytes, 5000u);
  EXPECT_EQ(grant->missing, std::vector<Digest>{id_of(3)});
  EXPECT_EQ(grant->incarnation, 7u);
  EXPECT_EQ(grant->region_key, 11u);
  EXPECT_EQ(grant->duration, Duration::from_ms(1000));
}

TEST(MemoryServerTest, a_range_that_does_not_hash_to_its_id_leaves_nothing_of_the_slab) {
  World world;
  world.spoiled = {id_of(2)};
  const auto sealed = world.write({1, 2, 3});
  ASSERT_EQ(sealed.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(std::string(sealed.status().message()), HasSubstr(id_of(2).short_hex()));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
  EXPECT_EQ(world.grant({1, 3})->missing.size(), 2u);
  EXPECT_TRUE(world.report(false).held.empty());
}

TEST(MemoryServerTest, blocks_already_there_are_deduplicated_and_so_are_repeats_within_a_slab) {
  World world;
  ASSERT_TRUE(world.write({1, 2}).ok());
  const auto again = world.write({2, 3, 3});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->sealed_bytes, 4096u);
  EXPECT_EQ(again->deduplicated_bytes, 8192u);
  EXPECT_EQ(world.server.blocks().used_bytes(), 3 * 4096u);
}

TEST(MemoryServerTest, two_slabs_sealing_the_same_block_at_once_keep_it_once) {
  World world;
  const auto a = world.open(4096), b = world.open(4096);
  world.hold_copies = true;
  world.feed(SealAsked{50, a->slab, 7, {{0, {id_of(1), 4096}}}});
  world.feed(SealAsked{51, b->slab, 7, {{0, {id_of(1), 4096}}}});
  world.feed(SealVerified{a->slab, absl::OkStatus()});
  world.feed(SealVerified{b->slab, absl::OkStatus()});
  EXPECT_EQ(world.seal_replies.at(50)->sealed_bytes, 4096u);
  EXPECT_EQ(world.seal_replies.at(51)->deduplicated_bytes, 4096u);
  EXPECT_EQ(world.server.blocks().used_bytes(), 4096u);
}

TEST(MemoryServerTest, a_block_that_vanished_while_its_slab_was_sealed_fails_the_seal) {
  World world;
  ASSERT_TRUE(world.write({1}).ok());
  const auto slab = world.open(8192);
  world.hold_copies = true;
  world.feed(SealAsked{50, slab->slab, 7, {{0, {id_of(1), 4096}}, {4096, {id_of(2), 4096}}}});
  world.feed(BlocksDropped{{id_of(1)}});
  world.feed(SealVerified{slab->slab, absl::OkStatus()});
  EXPECT_EQ(world.seal_replies.at(50).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
}

TEST(MemoryServerTest, a_dropped_block_is_hidden_at_once_and_its_bytes_are_kept_until_the_grant_ends) {
  World world;
  ASSERT_TRUE(world.write({1}).ok());
  ASSERT_TRUE(world.grant({1}).ok());
  world.feed(BlocksDropped{{id_of(1)}});
  EXPECT_EQ(world.grant({1})->missing.size(), 1u);
  EXPECT_EQ(world.server.blocks().used_bytes(), 4096u);
  world.wait(Duration::from_ms(1000));
  EXPECT_EQ(world.server.blocks().used_bytes(), 4096u) << "the server's clock may run ahead of the holder's: a margin is kept";
  world.wait(Duration::from_ms(100));
  EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
}

TEST(MemoryServerTest, a_leaving_block_that_is_written_again_is_held_without_a_copy) {
  World world;
  ASSERT_TRUE(world.write({1}).ok());
  ASSERT_TRUE(world.grant({1}).ok());
  world.report(false);
  world.feed(BlocksDropped{{id_of(1)}});
  const auto again = world.write({1});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->deduplicated_bytes, 4096u);
  const auto report = world.report(false);
  EXPECT_TRUE(report.dropped.empty());
  ASSERT_EQ(report.held.size(), 1u);
  EXPECT_EQ(report.held[0].id, id_of(1));
}

TEST(MemoryServerTest, reports_carry_what_changed_and_whole_ones_everything) {
  World world;
  ASSERT_TRUE(world.write({1, 2}).ok());
  EXPECT_EQ(world.report(false).held.size(), 2u);
  EXPECT_TRUE(world.report(false).held.empty());
  world.feed(BlocksDropped{{id_of(1), id_of(9)}});
  EXPECT_EQ(world.report(false).dropped.size(), 2u);  // Also the one that was never here: the controller can stop asking.
  const auto whole = world.report(true);
  EXPECT_TRUE(whole.inventory);
  ASSERT_EQ(whole.held.size(), 1u);
  EXPECT_EQ(whole.held[0].id, id_of(2));
}

TEST(MemoryServerTest, a_slab_that_fell_silent_expires_and_its_room_is_used_again) {
  World world;
  const auto slab = world.open(4 * kMiB);
  ASSERT_TRUE(world.open(4 * kMiB).ok());
  EXPECT_EQ(world.open(4096).status().code(), StatusCode::kResourceExhausted);
  EXPECT_LE(world.server.next_deadline(), world.now + Duration::from_ms(5100));
  world.wait(Duration::from_ms(5100));
  EXPECT_TRUE(world.registered.empty());
  EXPECT_EQ(world.seal(slab->slab, {{0, {id_of(1), 4096}}}).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(world.open(4 * kMiB).ok());
}

TEST(MemoryServerTest, an_abandoned_slab_is_closed_and_a_second_abandon_finds_nothing) {
  World world;
  const auto slab = world.open(4096);
  EXPECT_TRUE(world.abandon(slab->slab).ok());
  EXPECT_TRUE(world.registered.empty());
  EXPECT_EQ(world.abandon(slab->slab).code(), StatusCode::kNotFound);
}

TEST(MemoryServerTest, slab_limits_are_named_in_the_refusal) {
  World world;
  EXPECT_THAT(std::string(world.open(4 * kMiB + 1).status().message()), HasSubstr("4194304"));
  EXPECT_EQ(world.open(0).status().code(), StatusCode::kInvalidArgument);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(world.open(4096).ok());
  EXPECT_THAT(std::string(world.open(4096).status().message()), HasSubstr("slabs_max"));
}

TEST(MemoryServerTest, a_slab_that_cannot_be_registered_is_given_back) {
  World world;
  world.registering = absl::ResourceExhaustedError("memlock: 64 KiB");
  const auto slab = world.open(4 * kMiB);
  EXPECT_THAT(std::string(slab.status().message()), HasSubstr("memlock"));
  world.registering = absl::OkStatus();
  EXPECT_TRUE(world.open(4 * kMiB).ok());
  EXPECT_TRUE(world.open(4 * kMiB).ok());
}

TEST(MemoryServerTest, a_seal_of_another_incarnation_says_that_the_server_restarted) {
  World world;
  const auto slab = world.open(4096);
  EXPECT_THAT(std::string(world.seal(slab->slab, {{0, {id_of(1), 4096}}}, 6).status().message()), HasSubstr("restarted"));
  EXPECT_TRUE(world.seal(slab->slab, {{0, {id_of(1), 4096}}}).ok());
}

TEST(MemoryServerTest, ranges_outside_the_slab_and_sizes_beyond_a_block_are_refused_and_the_slab_ends) {
  for (const SealRange range : {SealRange{1, {id_of(1), 4096}}, SealRange{~uint64_t{0}, {id_of(1), 4096}}, SealRange{0, {id_of(1), 0}},
                                SealRange{0, {id_of(1), kBlockBytesMax + 1}}}) {
    World world;
    const auto slab = world.open(4096);
    EXPECT_EQ(world.seal(slab->slab, {{0, {id_of(5), 100}}, range}).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(world.server.blocks().used_bytes(), 0u);
    EXPECT_TRUE(world.registered.empty());
  }
}

TEST(MemoryServerTest, a_full_server_refuses_the_seal_says_what_is_free_and_keeps_what_it_had) {
  World world;
  ASSERT_TRUE(world.write({1}, kBlockBytesMax).ok());
  ASSERT_TRUE(world.write({2}, kBlockBytesMax - 4096).ok());
  const auto full = world.write({3, 4});
  ASSERT_EQ(full.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("4.0 KiB of 8.0 MiB"));
  EXPECT_EQ(world.grant({1, 2, 3})->missing.size(), 1u);
  EXPECT_EQ(world.server.blocks().extents().free_bytes(), 4096u);
}

TEST(MemoryServerTest, a_draining_server_refuses_new_work_and_ends_when_seals_are_done_and_readers_had_their_time) {
  World world;
  ASSERT_TRUE(world.write({1}).ok());
  ASSERT_TRUE(world.grant({1}).ok());
  const auto slab = world.open(4096);
  world.hold_copies = true;
  world.feed(SealAsked{50, slab->slab, 7, {{0, {id_of(2), 4096}}}});
  world.feed(DrainAsked{});
  EXPECT_EQ(world.grant({1}).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(world.open(4096).status().code(), StatusCode::kUnavailable);
  world.wait(MemoryServer::kDrainReadsFor);
  EXPECT_FALSE(world.server.drained(world.now));
  world.feed(SealVerified{slab->slab, absl::OkStatus()});
  EXPECT_TRUE(world.seal_replies.at(50).ok());
  EXPECT_TRUE(world.server.drained(world.now));
}

TEST(MemoryServerTest, an_arena_is_parted_so_that_a_block_always_fits_a_slab) {
  EXPECT_EQ(part_arena(16 * kMiB, 4 * kMiB, 32).slab_area_bytes, 4 * kMiB);
  EXPECT_EQ(part_arena(2 * kGiB, 64 * kMiB, 32).slab_area_bytes, 256 * kMiB);
  EXPECT_EQ(part_arena(64 * kGiB, 64 * kMiB, 32).slab_area_bytes, 2 * kGiB);
  EXPECT_EQ(part_arena(16ull << 40, 16 * kGiB, 65536).slab_area_bytes, 2ull << 40);
}

}  // namespace
}  // namespace cenote::node
