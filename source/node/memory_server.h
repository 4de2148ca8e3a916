// node/memory_server.h - what a memory server decides: grants, slabs, sealing, drops, reports. A state machine: step(now, events) ->
// actions; no I/O, clock or threads, so that bin/ feeds it gRPC and the fabric, and a simulator its own world.
//
// The arena is in two parts. Blocks lie in the first; peers may read it and nobody writes it but the server. Slabs lie in the second,
// each registered remote-writable for one writer until it is sealed, abandoned or expired. Sealing closes the slab's key, then copies
// each range into the block area and hashes the copy: what was hashed cannot change, and a write that arrives late can only spoil
// another slab, which its own hashes tell.
//
// Each call (CallId, chosen by whoever feeds the events) is answered by exactly one reply action.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memory/blocks.h"
#include "message/control.h"
#include "message/record.h"

namespace cenote::node {

using CallId = uint64_t;

struct MemoryServerOptions {
  std::string name;                 // Named in errors.
  Incarnation incarnation = 0;
  uint64_t block_area_bytes = 0;    // Offsets of grants count from its start.
  uint64_t slab_area_bytes = 0;     // Offsets of slabs count from its start.
  uint64_t read_key = 0;            // Of the block area.
  uint64_t read_base = 0;
  uint64_t slab_bytes_max = 0;
  uint32_t slabs_max = 0;
  Duration grant_duration;
  Duration slab_duration;
  std::string fabric_provider;
  std::string fabric_address;
};

// How an arena of `capacity_bytes` is parted: an eighth for slabs, but no more than all slabs together may need and at least 4 MiB
// (one block), whole 2 MiB pages.
struct ArenaParts {
  uint64_t block_area_bytes = 0;
  uint64_t slab_area_bytes = 0;
};
ArenaParts part_arena(uint64_t capacity_bytes, uint64_t slab_bytes_max, uint32_t slabs_max);

// ---- events -------------------------------------------------------------------------------------------------------------
struct GrantAsked { CallId call = 0; std::vector<Digest> ids; };
struct SlabAsked { CallId call = 0; uint64_t size_bytes = 0; std::string writer; };
struct SealAsked { CallId call = 0; uint64_t slab = 0; Incarnation incarnation = 0; std::vector<SealRange> ranges; };
struct AbandonAsked { CallId call = 0; uint64_t slab = 0; Incarnation incarnation = 0; };
struct SlabRegistered { uint64_t slab = 0; absl::Status status; uint64_t key = 0; uint64_t base = 0; };  // Answers RegisterSlab.
struct SlabUnregistered { uint64_t slab = 0; };                                                         // Answers UnregisterSlab.
struct SealVerified { uint64_t slab = 0; absl::Status status; };  // Answers CopyAndHash; kDataLoss names the range.
struct BlocksDropped { std::vector<Digest> ids; };                // The controller's word.
struct DrainAsked {};                                             // No new grants or slabs.
using MemoryServerEvent = std::variant<GrantAsked, SlabAsked, SealAsked, AbandonAsked, SlabRegistered, SlabUnregistered, SealVerified,
                                       BlocksDropped, DrainAsked>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct GrantReply { CallId call = 0; absl::StatusOr<Grant> grant; };
struct SlabReply { CallId call = 0; absl::StatusOr<SlabInfo> slab; };
struct SealReply { CallId call = 0; absl::StatusOr<SealResult> result; };
struct AbandonReply { CallId call = 0; absl::Status status; };
struct RegisterSlab { uint64_t slab = 0; uint64_t offset_bytes = 0; uint64_t size_bytes = 0; };  // Answer: SlabRegistered.
struct UnregisterSlab { uint64_t slab = 0; };                                                    // Answer: SlabUnregistered.
// For each range: copy slab area -> block area, then hash the copy. Answer: SealVerified; the first mismatch ends it.
struct CopyRange { uint64_t source_offset_bytes = 0; uint64_t target_offset_bytes = 0; BlockRef block; };
struct CopyAndHash { uint64_t slab = 0; std::vector<CopyRange> ranges; };
using MemoryServerAction =
    std::variant<GrantReply, SlabReply, SealReply, AbandonReply, RegisterSlab, UnregisterSlab, CopyAndHash>;

class MemoryServer {
 public:
  explicit MemoryServer(MemoryServerOptions options);

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<const MemoryServerEvent> events, std::vector<MemoryServerAction>& actions);
  // When step() has something to do without an event; infinite_future() if nothing.
  Instant next_deadline() const;

  // Fills the memory part of a heartbeat: everything if `whole`, else what changed since the last call. A report that may not have
  // arrived must be followed by a whole one.
  void fill_report(bool whole, MemberReport& report);
  // Blocks came or went since the last report: worth one at once.
  bool changed() const { return !added_.empty() || !dropped_.empty(); }

  // Draining, nothing is being sealed, and readers had `kDrainReadsFor` to finish or hold no grants.
  bool drained(Instant now) const;
  const memory::BlockTable& blocks() const { return blocks_; }

  static constexpr Duration kDrainReadsFor = Duration::from_ms(500);
  static constexpr size_t kGrantsMax = 1 << 20;   // Live at once.
  static constexpr size_t kRangesMax = 1 << 16;   // Of one seal.

 private:
  enum class SlabState : uint8_t { kRegistering, kOpen, kSealClosing, kSealing, kClosing };
  struct Slab {
    memory::Extent extent;          // In the slab area.
    uint64_t size_bytes = 0;        // As asked; extent may be rounded up.
    std::string writer;
    SlabState state = SlabState::kRegistering;
    Instant expires;                // While open.
    CallId call = 0;                // Who waits for the current state to end; 0: nobody.
    std::vector<CopyRange> copies;  // While sealing: blocks to be written, with room reserved.
    std::vector<Digest> present;    // While sealing: blocks that were there already.
    uint64_t present_bytes = 0;
  };
  using Slabs = std::map<uint64_t, Slab>;
  using Actions = std::vector<MemoryServerAction>;

  void handle(Instant now, const GrantAsked& ask, Actions& actions);
  void handle(Instant now, const SlabAsked& ask, Actions& actions);
  void handle(Instant now, const SealAsked& ask, Actions& actions);
  void handle(Instant now, const AbandonAsked& ask, Actions& actions);
  void handle(Instant now, const SlabRegistered& done, Actions& actions);
  void handle(Instant now, const SlabUnregistered& done, Actions& actions);
  void handle(Instant now, const SealVerified& done, Actions& actions);
  void handle(Instant now, const BlocksDropped& drop, Actions& actions);
  void handle(Instant now, const DrainAsked& drain, Actions& actions);

  absl::StatusOr<memory::Extent> admit_slab(const SlabAsked& ask);
  absl::StatusOr<Slabs::iterator> find_open(uint64_t slab, Incarnation incarnation);
  absl::Status reserve_ranges(const SealAsked& ask, Slab& slab);
  absl::StatusOr<SealResult> finish_seal(Slab& slab, const absl::Status& verified);
  void close(Slabs::iterator slab, CallId call, Actions& actions);
  void expire(Instant now, Actions& actions);

  MemoryServerOptions options_;
  memory::BlockTable blocks_;
  memory::Extents slab_extents_;
  Slabs slabs_;
  uint64_t next_slab_ = 1;
  std::deque<Instant> grants_;      // When each live grant ends; in order, since all last equally long.
  bool draining_ = false;
  Instant drain_began_;
  std::map<Digest, uint32_t> added_;  // Since the last report.
  std::set<Digest> dropped_;
};

}  // namespace cenote::node
