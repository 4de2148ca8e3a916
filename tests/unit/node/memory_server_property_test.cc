// Goal: whatever order things come in, granted bytes are never reused or wrong, calls are answered once, no acknowledged block is lost while
// a copy of it is whole, and disk, arena and what the controller is told agree.
// Method: RapidCheck random walks, without and with a disk whose every act comes late; the invariants are checked after every step.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/units.h"
#include "node/memory_server_world.h"

namespace cenote::node {
namespace {

TEST(MemoryServerProperty, random_walks_never_reuse_granted_bytes_and_answer_every_call_once) {
  const bool holds = rc::check([](const std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>& steps) {
    MemoryWorld world;
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

// What the test knows: which blocks were acknowledged, and which of their copies it spoiled.
class Walk {
 public:
  explicit Walk(Duration scrub_interval) : world(options(scrub_interval)) { world.hold_disk = true; }

  static MemoryServerOptions options(Duration scrub_interval) {
    MemoryServerOptions options = MemoryWorld::with_disk(20 * kMiB);
    options.scrub_interval = scrub_interval;
    return options;
  }
  static constexpr uint32_t kBlocks = 12;
  static uint32_t size_of(uint32_t n) { return static_cast<uint32_t>((1 + n % 3) * kMiB - 5000); }

  void act(uint8_t kind, uint8_t a, uint8_t b) {
    switch (kind % 12) {
      case 0:
      case 1: seal(a % kBlocks, b % kBlocks); break;
      case 2:
      case 3:
        if (!world.writes.empty()) world.write_next();
        break;
      case 4:
      case 5:
        if (!world.loads.empty()) load(a % world.loads.size());
        break;
      case 6:
      case 7: world.ask({a % kBlocks, b % kBlocks}, Duration::from_ms(b % 3 * 400)); break;
      case 8: drop(a % kBlocks); break;
      case 9: wait(Duration::from_ms(a * 5)); break;
      case 10:
        if (a % 4 == 0) world.disk_writes = b % 2 ? absl::OkStatus() : absl::ResourceExhaustedError("No space left on device");
        if (a % 4 == 1 && world.files.contains(id_of(b % kBlocks))) spoil(b % kBlocks);
        if (a % 4 == 2 && world.in_arena(b % kBlocks)) {
          world.rot_arena(b % kBlocks);
          spoiled.insert(id_of(b % kBlocks));
        }
        break;
      case 11:
        if (world.held_scrub) world.scrub_now();
    }
    check();
  }

  void settle() {
    world.disk_writes = absl::OkStatus();
    for (int round = 0; round < 200 && (!world.writes.empty() || !world.loads.empty() || world.held_scrub || unanswered()); ++round) {
      while (!world.writes.empty()) world.write_next();
      while (!world.loads.empty()) load(0);
      if (world.held_scrub) world.scrub_now();
      wait(Duration::from_ms(300));
    }
    check();
  }

  uint64_t report_used() { return world.report(true).memory.used_bytes; }
  bool unanswered() const {
    return world.grant_replies.size() + world.slab_replies.size() + world.seal_replies.size() + world.abandon_replies.size() != world.next_call - 1;
  }

  MemoryWorld world;
  std::set<Digest> spoiled;                      // Ever: nothing is claimed of them any more.
  std::set<Digest> dropped;                      // By the controller, since they were last acknowledged.
  std::map<CallId, std::vector<Digest>> sealing;
  std::map<Digest, uint32_t> told;               // What a controller would know.

 private:
  void seal(uint32_t first, uint32_t second) {
    const auto slab = world.open(4 * kMiB);
    if (!slab.ok()) return;
    const CallId call = world.next_call++;
    sealing[call] = {id_of(first)};
    std::vector<SealRange> ranges{{0, {id_of(first), size_of(first)}}};
    if (size_of(first) + size_of(second) <= 4 * kMiB - 4096 * 2) {
      sealing[call].push_back(id_of(second));
      ranges.push_back({round_up(size_of(first), 4096), {id_of(second), size_of(second)}});
    }
    world.feed(SealAsked{call, slab->slab, 7, ranges});
  }
  void drop(uint32_t n) {
    dropped.insert(id_of(n));
    world.feed(BlocksDropped{{id_of(n)}});
  }
  void spoil(uint32_t n) {
    world.files[id_of(n)] = false;
    spoiled.insert(id_of(n));
  }
  void load(size_t index) {
    const LoadBlock load = world.loads[index];
    for (const auto& [bytes, until] : live()) {
      RC_ASSERT(load.target_offset_bytes + load.block.size_bytes <= bytes.offset_bytes || bytes.end_bytes() <= load.target_offset_bytes);
    }
    world.load_one(index);
  }
  void wait(Duration duration) { world.wait(duration); }
  std::vector<std::pair<memory::Extent, Instant>> live() {
    std::erase_if(world.granted, [&](const auto& grant) { return grant.second + MemoryServer::kDiskGrantMax < world.now; });
    return world.granted;
  }

  void check() {
    for (const auto& [call, reply] : world.seal_replies) {
      const auto sealed = sealing.extract(call);
      if (sealed.empty() || !reply.ok()) continue;
      for (const Digest& id : sealed.mapped()) {
        dropped.erase(id);
        acknowledged_.insert(id);
      }
    }
    for (const auto& [id, size] : world.server.stored()) RC_ASSERT(world.files.contains(id));
    std::set<Digest> there;
    for (const auto& [id, size] : world.server.stored()) there.insert(id);
    for (const BlockRef& block : world.server.blocks().held()) there.insert(block.id);
    for (const Digest& id : acknowledged_) RC_ASSERT(there.contains(id) || dropped.contains(id) || spoiled.contains(id));
    const MemberReport report = world.report(false);
    for (const Digest& id : report.dropped) told.erase(id);
    for (const BlockRef& block : report.held) told[block.id] = block.size_bytes;
    std::set<Digest> known;
    for (const auto& [id, size] : told) known.insert(id);
    RC_ASSERT(known == there);
    RC_ASSERT(report.memory.used_bytes <= report.memory.capacity_bytes);
    RC_ASSERT(world.server.blocks().used_bytes() <= 8 * kMiB);
  }

  std::set<Digest> acknowledged_;
};

TEST(MemoryServerProperty, with_a_disk_nothing_acknowledged_is_lost_and_nothing_granted_is_overwritten) {
  const bool holds = rc::check([](const std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>& steps, bool scrub) {
    Walk walk(scrub ? Duration::from_ms(500) : Duration{});
    for (const auto& [kind, a, b] : steps) walk.act(kind, a, b);
    walk.settle();
    RC_ASSERT(!walk.unanswered());
    for (const auto& [id, whole] : walk.world.files) RC_ASSERT(walk.world.server.stored().contains(id));
    std::vector<Digest> all;
    for (uint32_t n = 0; n < Walk::kBlocks; ++n) all.push_back(id_of(n));
    walk.dropped.insert(all.begin(), all.end());
    walk.world.feed(BlocksDropped{all});
    walk.settle();
    walk.world.wait(Duration::from_ms(10'000));
    RC_ASSERT(walk.world.server.blocks().used_bytes() == 0u);
    RC_ASSERT(walk.world.files.empty());
    RC_ASSERT(walk.report_used() == 0u);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::node
