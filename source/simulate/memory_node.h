// simulate/memory_node.h - node/memory_server.h in a place of the simulator: its arena and slabs as Content, its callers, one-sided reads
// and writes served without a step of its machine.
#pragma once

#include "node/memory_server.h"
#include "simulate/calls.h"
#include "simulate/content.h"
#include "simulate/truth.h"
#include "simulate/uplink.h"

namespace cenote::simulate {

struct MemoryShape {
  uint64_t capacity_bytes = 48 * kMiB;
  uint64_t slab_bytes_max = 8 * kMiB;
  uint32_t slabs_max = 2;
  Duration grant_duration = Duration::from_seconds(3);
  Duration slab_duration = Duration::from_seconds(6);
  Duration heartbeat = Duration::from_ms(400);
  Duration drain_timeout = Duration::from_seconds(3);
};

class MemoryNode final : public Process {
 public:
  MemoryNode(Network& network, PlaceId place, Incarnation incarnation, const MemoryShape& shape, PlaceId controller);

  void start() override { link_.open(); }
  void run(Instant now) override;
  Instant due() const override;

  // ---- calls
  void grant(std::vector<Digest> ids, Instant sent_at, Network::Answer<absl::StatusOr<Grant>> done);
  void open(uint64_t size_bytes, const std::string& writer, Network::Answer<absl::StatusOr<SlabInfo>> done);
  void seal(uint64_t slab, Incarnation incarnation, std::vector<SealRange> ranges, Network::Answer<absl::StatusOr<SealResult>> done);
  void abandon(uint64_t slab, Incarnation incarnation, Network::Answer<absl::Status> done);

  // ---- one-sided: kUnavailable if the key is not (any more) registered for this
  absl::StatusOr<std::vector<Chunk>> read(uint64_t key, uint64_t offset, uint64_t size_bytes) const;
  absl::Status write(uint64_t key, uint64_t offset, const std::vector<Chunk>& chunks);

  const node::MemoryServer& machine() const { return machine_; }
  void corrupt_arena(uint64_t n) { arena_.corrupt(n); }
  // Whether the bytes of this block are there, held and right.
  bool holds_right(const BlockRef& block) const;
  size_t unanswered() const { return grants_.size() + opens_.size() + seals_.size() + abandons_.size(); }
  void check() const;   // Invariants of its bookkeeping.

 private:
  void obey(Directive directive);
  void report();
  void perform(node::GrantReply& reply);
  void perform(node::SlabReply& reply) { opens_.finish(world_ref(), reply.call, std::move(reply.slab)); }
  void perform(node::SealReply& reply) { seals_.finish(world_ref(), reply.call, std::move(reply.result)); }
  void perform(node::AbandonReply& reply) { abandons_.finish(world_ref(), reply.call, reply.status); }
  void perform(node::RegisterSlab& action);
  void perform(node::UnregisterSlab& action);
  void perform(node::CopyAndHash& action);
  void perform(node::FetchCopy& action);
  void read_copy(const node::FetchCopy& action, Instant sent_at, const Grant& grant);
  void end_copy(const Digest& id, absl::Status status) { inputs_.emplace_back(node::CopyFetched{id, std::move(status)}); }
  void perform(node::CheckCopy& action);
  void perform(node::ScrubBlock& action);
  // Simulated servers have no disk: their machine must not ask for one.
  void perform(node::LoadBlock&) { no_disk("reads a block"); }
  void perform(node::RemoveBlocks&) { no_disk("removes blocks"); }
  void perform(node::StoreBlock&) { no_disk("stores a block"); }
  void perform(node::RememberLineage&) { no_disk("remembers a lineage"); }
  void no_disk(std::string_view what);
  absl::Status copy_and_hash(const std::vector<node::CopyRange>& ranges);
  void check_target(uint64_t offset, uint64_t size_bytes) const;
  World& world_ref() const { return const_cast<MemoryNode*>(this)->world(); }

  // What holders may still read, as they count it.
  struct Live {
    uint64_t begin = 0;
    uint64_t end = 0;
    Instant until;
  };
  struct Region {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
    uint64_t key = 0;
  };
  const MemoryShape shape_;
  const uint64_t read_key_;
  node::ArenaParts parts_;
  node::MemoryServer machine_;
  Uplink link_;
  Content arena_, slabs_;
  std::map<uint64_t, Region> regions_;                 // By slab.
  std::map<node::CallId, Instant> asked_;              // Grants: when their holder sent the call.
  std::vector<Live> live_;
  std::vector<node::MemoryServerEvent> inputs_;
  uint64_t next_call_ = 1;
  Calls<absl::StatusOr<Grant>> grants_;
  Calls<absl::StatusOr<SlabInfo>> opens_;
  Calls<absl::StatusOr<SealResult>> seals_;
  Calls<absl::Status> abandons_;
  Instant next_report_;
  Instant drain_end_ = Instant::infinite_future();
  bool inventory_due_ = false;
  bool lost_increment_ = false;
  bool drain_asked_ = false;
};

}  // namespace cenote::simulate
