// tests/unit/node/memory_server_world.h - the world of one memory server: slabs that register at once, bytes that are copied, an arena and a
// disk that remember what lies where, all at once or, if held back, one by one in an order the test picks.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <set>

#include "base/units.h"
#include "node/memory_server.h"

namespace cenote::node {

inline Digest id_of(uint32_t n) {
  Digest id;
  std::memcpy(id.bytes.data(), &n, sizeof n);
  id.bytes[31] = 1;
  return id;
}

class MemoryWorld {
 public:
  explicit MemoryWorld(MemoryServerOptions options = defaults()) : server(options) {
    for (const BlockRef& block : options.stored) files[block.id] = true;
  }

  static MemoryServerOptions defaults() {
    return {.name = "memory-0", .incarnation = 7, .block_area_bytes = 8 * kMiB, .slab_area_bytes = 8 * kMiB, .read_key = 11, .slab_bytes_max = 4 * kMiB,
            .slabs_max = 3, .grant_duration = Duration::from_ms(1000), .slab_duration = Duration::from_ms(5000)};
  }
  static MemoryServerOptions with_disk(uint64_t capacity_bytes = 64 * kMiB) {
    MemoryServerOptions options = defaults();
    options.disk = true;
    options.disk_capacity_bytes = capacity_bytes;
    return options;
  }

  // Feeds `event` and whatever the world answers, until nothing is left to do.
  void feed(MemoryServerEvent event) { feed_all({std::move(event)}); }
  void feed_all(std::vector<MemoryServerEvent> events) {
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
    feed_all(std::move(events));
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
  CallId ask(std::vector<uint32_t> blocks, Duration wait = {}) {
    const CallId call = next_call++;
    GrantAsked ask{.call = call, .ids = {}, .wait = wait};
    for (const uint32_t block : blocks) ask.ids.push_back(id_of(block));
    feed(ask);
    return call;
  }
  absl::StatusOr<Grant> grant(std::vector<uint32_t> blocks, Duration wait = {}) { return grant_replies.at(ask(std::move(blocks), wait)); }
  absl::Status abandon(uint64_t slab) {
    const CallId call = next_call++;
    feed(AbandonAsked{call, slab, 7});
    return abandon_replies.at(call);
  }
  MemberReport report(bool whole) {
    MemberReport report;
    server.fill_report(now, whole, report);
    return report;
  }
  bool in_arena(uint32_t n) const { return server.blocks().find(id_of(n)).has_value(); }
  bool on_disk(uint32_t n) const { return server.stored().contains(id_of(n)); }
  // A byte of it changes in the arena. The block must be there.
  void rot_arena(uint32_t n) { rotten.insert(server.blocks().find(id_of(n))->offset_bytes); }

  // ---- what `hold_disk` held back, each to be called with what is there ------------------------------------------------------
  void write_next() {
    const MemoryServerAction action = std::move(writes.front());
    writes.pop_front();
    std::vector<MemoryServerEvent> events;
    std::visit([&](const auto& a) { write_now(a, events); }, action);
    feed_all(std::move(events));
  }
  void load_one(size_t index) {
    const LoadBlock load = loads[index];
    loads.erase(loads.begin() + static_cast<ptrdiff_t>(index));
    std::vector<MemoryServerEvent> events;
    load_now(load, events);
    feed_all(std::move(events));
  }
  void scrub_now() {
    const ScrubBlock scrub = *std::exchange(held_scrub, std::nullopt);
    std::vector<MemoryServerEvent> events;
    scrub_done(scrub, events);
    feed_all(std::move(events));
  }

  // The controller orders copies of these, each from the sources named.
  void order(const std::vector<uint32_t>& blocks, std::vector<std::string> sources = {"memory-1"}, uint32_t size = 4096) {
    CopiesWanted wanted;
    for (const std::string& source : sources) wanted.sources.push_back({.name = source, .incarnation = 9});
    for (const uint32_t n : blocks) wanted.copies.push_back({.block = {id_of(n), size}, .sources = sources});
    feed(std::move(wanted));
  }
  // The oldest fetch ends: the block's bytes, or wrong ones, or none.
  void arrive(absl::Status status = absl::OkStatus(), bool right = true) {
    const FetchCopy fetch = fetches.front();
    fetches.pop_front();
    put(fetch.target_offset_bytes, fetch.block);
    if (!right) rotten.insert(fetch.target_offset_bytes);
    feed(CopyFetched{fetch.block.id, std::move(status)});
  }

  MemoryServer server;
  Instant now;
  std::deque<FetchCopy> fetches;           // Not ended.
  CallId next_call = 1;
  std::set<uint64_t> registered;
  std::set<Digest> spoiled;
  std::vector<CopyAndHash> held_back;      // Copies not answered, if `hold_copies`.
  bool hold_copies = false;
  bool hold_disk = false;
  std::vector<RememberLineage> remembered;
  std::deque<MemoryServerAction> writes;   // CopyAndHash, RemoveBlocks and StoreBlock, in order.
  std::vector<LoadBlock> loads;
  std::optional<ScrubBlock> held_scrub;
  absl::Status registering;
  absl::Status disk_writes, disk_reads;    // What the disk says.
  std::map<Digest, bool> files;            // On disk -> whole.
  std::map<uint64_t, std::pair<Digest, uint64_t>> arena;  // Offset -> whose bytes lie there, and how many.
  std::set<uint64_t> rotten;               // Offsets in the arena where they changed since.
  std::vector<std::pair<memory::Extent, Instant>> granted;
  std::set<Digest> aside;
  uint64_t scrubs = 0;
  std::map<CallId, absl::StatusOr<Grant>> grant_replies;
  std::map<CallId, absl::StatusOr<SlabInfo>> slab_replies;
  std::map<CallId, absl::StatusOr<SealResult>> seal_replies;
  std::map<CallId, absl::Status> abandon_replies;

 private:
  using Events = std::vector<MemoryServerEvent>;

  void perform(const GrantReply& a, Events&) {
    EXPECT_TRUE(grant_replies.emplace(a.call, a.grant).second);
    if (!a.grant.ok()) return;
    for (const BlockGrant& block : a.grant->blocks) {
      granted.push_back({{block.offset_bytes, block.size_bytes}, now});  // At least; tests that look at time know better.
      const auto there = arena.find(block.offset_bytes);
      EXPECT_TRUE(there != arena.end() && there->second.first == block.id) << "granted bytes are another block's";
    }
  }
  void perform(const SlabReply& a, Events&) { EXPECT_TRUE(slab_replies.emplace(a.call, a.slab).second); }
  void perform(const SealReply& a, Events&) { EXPECT_TRUE(seal_replies.emplace(a.call, a.result).second); }
  void perform(const AbandonReply& a, Events&) { EXPECT_TRUE(abandon_replies.emplace(a.call, a.status).second); }
  void perform(const RegisterSlab& a, Events& events) {
    if (registering.ok()) {
      EXPECT_TRUE(registered.insert(a.slab).second);
    }
    events.push_back(SlabRegistered{a.slab, registering, 100 + a.slab, 0});
  }
  void perform(const UnregisterSlab& a, Events& events) {
    EXPECT_EQ(registered.erase(a.slab), 1u);
    events.push_back(SlabUnregistered{a.slab});
  }
  void perform(const CopyAndHash& a, Events& events) {
    EXPECT_FALSE(registered.contains(a.slab)) << "copied while the writer could still write";
    if (hold_copies) {
      for (const CopyRange& range : a.ranges) put(range.target_offset_bytes, range.block);
      held_back.push_back(a);
    } else if (hold_disk) {
      writes.push_back(a);
    } else {
      write_now(a, events);
    }
  }
  void perform(const RemoveBlocks& a, Events& events) { hold_disk ? writes.push_back(a) : write_now(a, events); }
  void perform(const StoreBlock& a, Events& events) { hold_disk ? writes.push_back(a) : write_now(a, events); }
  void perform(const RememberLineage& a, Events&) { remembered.push_back(a); }
  void perform(const LoadBlock& a, Events& events) { hold_disk ? loads.push_back(a) : load_now(a, events); }
  void perform(const FetchCopy& a, Events&) {
    EXPECT_FALSE(fetching(a.block.id)) << "one source at a time";
    fetches.push_back(a);
  }
  bool fetching(const Digest& id) const {
    return std::any_of(fetches.begin(), fetches.end(), [&](const FetchCopy& fetch) { return fetch.block.id == id; });
  }
  void perform(const CheckCopy& a, Events& events) { hold_disk ? writes.push_back(a) : write_now(a, events); }
  void perform(const ScrubBlock& a, Events& events) {
    EXPECT_FALSE(held_scrub.has_value()) << "one at a time";
    ++scrubs;
    if (hold_disk) {
      held_scrub = a;
    } else {
      scrub_done(a, events);
    }
  }

  void put(uint64_t offset, const BlockRef& block) {
    const uint64_t end = offset + block.size_bytes;
    for (auto other = arena.begin(); other != arena.end();) {
      const bool apart = other->first >= end || other->first + other->second.second <= offset;
      if (!apart) rotten.erase(other->first);
      other = apart ? std::next(other) : arena.erase(other);
    }
    arena[offset] = {block.id, block.size_bytes};
    rotten.erase(offset);
  }
  bool good_in_arena(uint64_t offset, const Digest& id) const {
    const auto there = arena.find(offset);
    return there != arena.end() && there->second.first == id && !rotten.contains(offset);
  }

  void write_now(const CopyAndHash& a, Events& events) {
    absl::Status status;
    bool disk = false;
    for (const CopyRange& range : a.ranges) {
      if (!status.ok()) break;
      if (range.to_arena) put(range.target_offset_bytes, range.block);
      if (spoiled.contains(range.block.id)) {
        status = absl::DataLossError("block " + range.block.id.short_hex());
      } else if (a.store && !disk_writes.ok()) {
        status = disk_writes;
        disk = true;
      } else if (a.store) {
        files[range.block.id] = true;
      }
    }
    events.push_back(SealVerified{a.slab, status, disk});
  }
  void write_now(const CheckCopy& a, Events& events) {
    absl::Status status;
    if (!good_in_arena(a.offset_bytes, a.block.id)) status = absl::DataLossError("not the block");
    const bool refused = status.ok() && a.store && !disk_writes.ok();
    if (refused) status = disk_writes;
    if (status.ok() && a.store) files[a.block.id] = true;
    events.push_back(CopyChecked{a.block.id, status, refused});
  }
  void write_now(const RemoveBlocks& a, Events&) {
    for (const Digest& id : a.ids) {
      if (a.aside && files.contains(id)) aside.insert(id);
      files.erase(id);
    }
  }
  void write_now(const StoreBlock& a, Events& events) {
    absl::Status status = disk_writes;
    if (!good_in_arena(a.source_offset_bytes, a.block.id)) status = absl::DataLossError("rotten");
    if (status.ok()) files[a.block.id] = true;
    events.push_back(BlockStored{a.block.id, status});
  }
  template <typename Other>
  void write_now(const Other&, Events&) {}
  absl::Status copy_on_disk(const Digest& id) const {
    if (!disk_reads.ok()) return disk_reads;
    const auto file = files.find(id);
    if (file == files.end()) return absl::NotFoundError("no file");
    return file->second ? absl::OkStatus() : absl::DataLossError("rotten");
  }
  void load_now(const LoadBlock& a, Events& events) {
    put(a.target_offset_bytes, a.block);
    events.push_back(BlockLoaded{a.block.id, copy_on_disk(a.block.id)});
  }
  void scrub_done(const ScrubBlock& a, Events& events) {
    BlockScrubbed done;
    if (a.disk) done.disk = copy_on_disk(a.block.id);
    if (a.arena_offset_bytes && !good_in_arena(*a.arena_offset_bytes, a.block.id)) done.arena = absl::DataLossError("rotten");
    events.push_back(done);
  }
};

}  // namespace cenote::node
