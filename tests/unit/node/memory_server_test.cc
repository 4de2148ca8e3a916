// Goal: a memory server grants only what it holds, never reuses granted bytes, keeps a slab's blocks all or nothing, and answers
// every call exactly once.
// Method: a script of events against the state machine, with a world that registers, copies and hashes at once; then a RapidCheck random
// walk that checks the invariants after every step.
#include "node/memory_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/units.h"

namespace cenote::node {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

Digest id_of(uint32_t n) {
  Digest id;
  std::memcpy(id.bytes.data(), &n, sizeof n);
  id.bytes[31] = 1;
  return id;
}

// The world of one server: registers and unregisters slabs at once, and copies "bytes" that are right unless named in `spoiled`.
class World {
 public:
  explicit World(MemoryServerOptions options = defaults()) : server(options) {}

  static MemoryServerOptions defaults() {
    return {.name = "memory-0", .incarnation = 7, .block_area_bytes = 8 * kMiB, .slab_area_bytes = 8 * kMiB, .read_key = 11, .slab_bytes_max = 4 * kMiB,
            .slabs_max = 3, .grant_duration = Duration::from_ms(1000), .slab_duration = Duration::from_ms(5000)};
  }

  // Feeds `event` and whatever the world answers, until nothing is left to do.
  void feed(MemoryServerEvent event) {
    std::vector<MemoryServerEvent> events{std::move(event)};
    while (!events.empty()) {
      std::vector<MemoryServerAction> actions;
      server.step(now, events, actions);
      events.clear();
      for (const MemoryServerAction& action : actions) {
        std::visit([&](const auto& a) { perform(a, events); }, action);
      }
    }
  }
  void wait(Duration duration) {
    now = now + duration;
    std::vector<MemoryServerAction> actions;
    std::vector<MemoryServerEvent> events;
    server.step(now, {}, actions);
    for (const MemoryServerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
    for (MemoryServerEvent& event : events) feed(std::move(event));
  }

  absl::StatusOr<SlabInfo> open(uint64_t size_bytes) {
    const CallId call = next_call++;
    feed(SlabAsked{call, size_bytes, "writer"});
    return slab_replies.at(call);
  }
  absl::StatusOr<SealResult> seal(uint64_t slab, std::vector<SealRange> ranges, Incarnation incarnation = 7) {
    const CallId call = next_call++;
    feed(SealAsked{call, slab, incarnation, std::move(ranges)});
    return seal_replies.at(call);
  }
  // One slab with these blocks of `size` bytes, sealed.
  absl::StatusOr<SealResult> write(std::vector<uint32_t> blocks, uint32_t size = 4096) {
    const auto slab = open(round_up(size, 4096) * blocks.size());
    if (!slab.ok()) return slab.status();
    std::vector<SealRange> ranges;
    for (const uint32_t block : blocks) ranges.push_back({.offset_bytes = ranges.size() * round_up(size, 4096), .block = {id_of(block), size}});
    return seal(slab->slab, ranges);
  }
  absl::StatusOr<Grant> grant(std::vector<uint32_t> blocks) {
    const CallId call = next_call++;
    GrantAsked ask{.call = call};
    for (const uint32_t block : blocks) ask.ids.push_back(id_of(block));
    feed(ask);
    return grant_replies.at(call);
  }
  absl::Status abandon(uint64_t slab) {
    const CallId call = next_call++;
    feed(AbandonAsked{call, slab, 7});
    return abandon_replies.at(call);
  }
  MemberReport report(bool whole) {
    MemberReport report;
    server.fill_report(whole, report);
    return report;
  }

  MemoryServer server;
  Instant now;
  CallId next_call = 1;
  std::set<uint64_t> registered;
  std::set<Digest> spoiled;
  std::vector<CopyAndHash> held_back;      // Copies not answered, if `hold_copies`.
  bool hold_copies = false;
  absl::Status registering;
  std::map<CallId, absl::StatusOr<Grant>> grant_replies;
  std::map<CallId, absl::StatusOr<SlabInfo>> slab_replies;
  std::map<CallId, absl::StatusOr<SealResult>> seal_replies;
  std::map<CallId, absl::Status> abandon_replies;

 private:
  void perform(const GrantReply& a, std::vector<MemoryServerEvent>&) { EXPECT_TRUE(grant_replies.emplace(a.call, a.grant).second); }
  void perform(const SlabReply& a, std::vector<MemoryServerEvent>&) { EXPECT_TRUE(slab_replies.emplace(a.call, a.slab).second); }
  void perform(const SealReply& a, std::vector<MemoryServerEvent>&) { EXPECT_TRUE(seal_replies.emplace(a.call, a.result).second); }
  void perform(const AbandonReply& a, std::vector<MemoryServerEvent>&) { EXPECT_TRUE(abandon_replies.emplace(a.call, a.status).second); }
  void perform(const RegisterSlab& a, std::vector<MemoryServerEvent>& events) {
    if (registering.ok()) {
      EXPECT_TRUE(registered.insert(a.slab).second);
    }
    events.push_back(SlabRegistered{a.slab, registering, 100 + a.slab, 0});
  }
  void perform(const UnregisterSlab& a, std::vector<MemoryServerEvent>& events) {
    EXPECT_EQ(registered.erase(a.slab), 1u);
    events.push_back(SlabUnregistered{a.slab});
  }
  void perform(const CopyAndHash& a, std::vector<MemoryServerEvent>& events) {
    EXPECT_FALSE(registered.contains(a.slab)) << "copied while the writer could still write";
    if (hold_copies) {
      held_back.push_back(a);
      return;
    }
    absl::Status status;
    for (const CopyRange& range : a.ranges) {
      if (spoiled.contains(range.block.id)) status = absl::DataLossError("block " + range.block.id.short_hex());
    }
    events.push_back(SealVerified{a.slab, status});
  }
};

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

TEST(MemoryServerProperty, random_walks_never_reuse_granted_bytes_and_answer_every_call_once) {
  const bool holds = rc::check([](const std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>& steps) {
    World world;
    std::vector<std::pair<memory::Extent, Instant>> granted;
    std::vector<uint64_t> open;
    for (const auto& [kind, a, b] : steps) {
      switch (kind % 7) {
        case 0:
          if (const auto slab = world.open((1 + a % 4) * kMiB); slab.ok()) open.push_back(slab->slab);
          break;
        case 1: {
          if (open.empty()) break;
          world.hold_copies = b % 2 == 0;
          const uint64_t slab = open[b % open.size()];
          std::erase(open, slab);
          world.spoiled = b % 5 == 0 ? std::set<Digest>{id_of(a % 9)} : std::set<Digest>{};
          world.feed(SealAsked{world.next_call++, slab, 7, {{0, {id_of(a % 9), 700 * 1024}}, {kMiB / 4, {id_of(b % 9), 700 * 1024}}}});
          break;
        }
        case 2:
          while (!world.held_back.empty()) {
            const CopyAndHash copy = world.held_back.back();
            world.held_back.pop_back();
            for (const CopyRange& range : copy.ranges) {
              for (const auto& [bytes, until] : granted) {
                RC_ASSERT(until < world.now || range.target_offset_bytes + range.block.size_bytes <= bytes.offset_bytes ||
                          bytes.end_bytes() <= range.target_offset_bytes);
              }
            }
            world.feed(SealVerified{copy.slab, absl::OkStatus()});
          }
          break;
        case 3: {
          const auto grant = world.grant({a % 9u, b % 9u});
          RC_ASSERT(grant.ok());
          for (const BlockGrant& block : grant->blocks) {
            granted.push_back({{block.offset_bytes, block.size_bytes}, world.now + grant->duration});
          }
          break;
        }
        case 4: world.feed(BlocksDropped{{id_of(a % 9)}}); break;
        case 5: world.wait(Duration::from_ms(a * 4)); break;
        case 6:
          if (!open.empty()) {
            (void)world.abandon(open.back());
            open.pop_back();
          }
      }
      RC_ASSERT(world.server.next_deadline() > world.now);
    }
    for (const CopyAndHash& copy : world.held_back) world.feed(SealVerified{copy.slab, absl::OkStatus()});
    world.feed(BlocksDropped{[] { std::vector<Digest> all; for (uint32_t n = 0; n < 9; ++n) all.push_back(id_of(n)); return all; }()});
    world.wait(Duration::from_ms(10'000));
    RC_ASSERT(world.server.blocks().used_bytes() == 0u);
    RC_ASSERT(world.registered.empty());
    const size_t replies = world.grant_replies.size() + world.slab_replies.size() + world.seal_replies.size() + world.abandon_replies.size();
    RC_ASSERT(replies == world.next_call - 1);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::node
