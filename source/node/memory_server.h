// node/memory_server.h - what a memory server decides: grants, slabs, sealing, drops, reports. A state machine: step(now, events) ->
// actions; no I/O, clock or threads, so that bin/ feeds it gRPC and the fabric, and a simulator its own world.
//
// The arena is in two parts. Blocks lie in the first; peers may read it and nobody writes it but the server. Slabs lie in the second,
// each registered remote-writable for one writer until it is sealed, abandoned or expired. Sealing closes the slab's key, then copies
// each range into the block area and hashes the copy: what was hashed cannot change, and a write that arrives late can only spoil
// another slab, which its own hashes tell.
//
// With a disk behind it (options.disk) every sealed block is on disk before its seal is answered, and what the arena holds is a part of
// that: what was not granted for longest leaves it when room is needed (policy/evict.h), never the only copy, and a grant for a block
// that is on disk only has it read back, checked against its id. Such a grant waits, as long as its holder allows, until some of what
// it asks for is there; what does not fit now is in neither list of the reply, and the holder asks again. So that room comes free soon,
// grants last kDiskGrantMax at most. A copy that turns out bad, on load or by the scrubber, is never granted again: it is replaced by the
// server's other copy, or reported as dropped.
//
// Copies: the controller orders replicas to be made here (CopiesWanted). They are read from other servers as agents read, at a pace of their
// own, checked, kept as if sealed, and reported as held; what came to nothing is reported too.
//
// Each call (CallId, chosen by whoever feeds the events) is answered by exactly one reply action.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/units.h"
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
  bool disk = false;
  uint64_t disk_capacity_bytes = 0;  // Of stored_bytes() of all blocks.
  std::vector<BlockRef> stored;      // On disk at start.
  Duration scrub_interval;           // In which every byte held is checked once. 0: never.
  uint64_t copy_bytes_per_second = 0;  // That copies may take together. 0: not paced.
  uint64_t lineage = 0;             // As its disk remembers it; 0: never told.
  uint64_t lineage_sequence = 0;
  bool awaits_lineage = false;      // No slab is opened before a controller has said which catalogue it has: so no block is without one.
};

// What a block takes on disk: padded as in the arena, and 4 KiB of what the store writes with it.
constexpr uint64_t stored_bytes(uint32_t block_bytes) { return round_up(block_bytes, kBlockAlignBytes) + kBlockAlignBytes; }

// How an arena of `capacity_bytes` is parted: an eighth for slabs, but no more than all slabs together may need and at least 4 MiB
// (one block), whole 2 MiB pages.
struct ArenaParts {
  uint64_t block_area_bytes = 0;
  uint64_t slab_area_bytes = 0;
};
ArenaParts part_arena(uint64_t capacity_bytes, uint64_t slab_bytes_max, uint32_t slabs_max);

// ---- events -------------------------------------------------------------------------------------------------------------
struct GrantAsked { CallId call = 0; std::vector<Digest> ids; Duration wait; };  // wait: how long the holder lets us read back.
struct SlabAsked { CallId call = 0; uint64_t size_bytes = 0; std::string writer; };
struct SealAsked { CallId call = 0; uint64_t slab = 0; Incarnation incarnation = 0; std::vector<SealRange> ranges; };
struct AbandonAsked { CallId call = 0; uint64_t slab = 0; Incarnation incarnation = 0; };
struct SlabRegistered { uint64_t slab = 0; absl::Status status; uint64_t key = 0; uint64_t base = 0; };  // Answers RegisterSlab.
struct SlabUnregistered { uint64_t slab = 0; };                                                         // Answers UnregisterSlab.
// Answers CopyAndHash; kDataLoss names the range. `disk`: it is the disk that refused.
struct SealVerified { uint64_t slab = 0; absl::Status status; bool disk = false; };
struct BlockLoaded { Digest id; absl::Status status; };   // Answers LoadBlock. kDataLoss, kNotFound: the copy on disk is no good.
struct BlockScrubbed { absl::Status disk, arena; };        // Answers ScrubBlock; the same codes. Ok what was not to be looked at.
struct BlockStored { Digest id; absl::Status status; };   // Answers StoreBlock. kDataLoss: the copy in the arena is no good; others: the disk's.
struct BlocksDropped { std::vector<Digest> ids; };                // The controller's word.
struct LineageTold { uint64_t lineage = 0; uint64_t sequence = 0; };  // The controller's catalogue, to be remembered.
// The controller's word: every copy to be made here. Replaces the last such word; what has begun goes on.
struct CopiesWanted { std::vector<CopyOrder> copies; std::vector<MemoryServerInfo> sources; };
struct CopyFetched { Digest id; absl::Status status; };   // Answers FetchCopy: nothing writes there any more.
// Answers CheckCopy. kDataLoss: it is not the block. `disk`: it is the disk that refused.
struct CopyChecked { Digest id; absl::Status status; bool disk = false; };
struct ChecksWanted { std::vector<Digest> ids; };         // The controller's word: blocks to be looked at soon, all of them.
struct DrainAsked {};                                             // No new grants or slabs.
using MemoryServerEvent = std::variant<GrantAsked, SlabAsked, SealAsked, AbandonAsked, SlabRegistered, SlabUnregistered, SealVerified,
                                       BlockLoaded, BlockScrubbed, BlockStored, BlocksDropped, LineageTold, CopiesWanted, CopyFetched, CopyChecked, ChecksWanted, DrainAsked>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct GrantReply { CallId call = 0; absl::StatusOr<Grant> grant; };
struct SlabReply { CallId call = 0; absl::StatusOr<SlabInfo> slab; };
struct SealReply { CallId call = 0; absl::StatusOr<SealResult> result; };
struct AbandonReply { CallId call = 0; absl::Status status; };
struct RegisterSlab { uint64_t slab = 0; uint64_t offset_bytes = 0; uint64_t size_bytes = 0; };  // Answer: SlabRegistered.
struct UnregisterSlab { uint64_t slab = 0; };                                                    // Answer: SlabUnregistered.
// For each range: copy slab area -> block area (or, without a place there, anywhere private), hash the copy, and with `store` put it on
// disk for good. Answer: SealVerified; the first mismatch ends it.
struct CopyRange { uint64_t source_offset_bytes = 0; uint64_t target_offset_bytes = 0; BlockRef block; bool to_arena = true; };
struct CopyAndHash { uint64_t slab = 0; std::vector<CopyRange> ranges; bool store = false; };
// The disk's. All but LoadBlock and ScrubBlock are carried out in the order given, CopyAndHash among them.
struct LoadBlock { BlockRef block; uint64_t target_offset_bytes = 0; };  // Read and hash. Answer: BlockLoaded.
struct RemoveBlocks { std::vector<Digest> ids; bool aside = false; };    // From disk; `aside`: they are bad, keep some to look at.
struct StoreBlock { BlockRef block; uint64_t source_offset_bytes = 0; }; // Arena -> disk, hashed on the way. Answer: BlockStored.
struct RememberLineage { uint64_t lineage = 0; uint64_t sequence = 0; }; // On disk, before what is sealed after it.
// Hash the copy at the offset, and check the one on disk. Answer: BlockScrubbed; one at a time.
struct ScrubBlock { BlockRef block; bool disk = false; std::optional<uint64_t> arena_offset_bytes; };
// Ask `source` for a grant and read the block from there. Answer: CopyFetched, by a deadline.
struct FetchCopy { BlockRef block; MemoryServerInfo source; uint64_t target_offset_bytes = 0; };
// Hash what lies there, and with `store` put it on disk for good. In order with CopyAndHash. Answer: CopyChecked.
struct CheckCopy { BlockRef block; uint64_t offset_bytes = 0; bool store = false; };
using MemoryServerAction = std::variant<GrantReply, SlabReply, SealReply, AbandonReply, RegisterSlab, UnregisterSlab, CopyAndHash, LoadBlock, RemoveBlocks,
                                        StoreBlock, RememberLineage, ScrubBlock, FetchCopy, CheckCopy>;

class MemoryServer {
 public:
  explicit MemoryServer(MemoryServerOptions options);

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<const MemoryServerEvent> events, std::vector<MemoryServerAction>& actions);
  // When step() has something to do without an event; infinite_future() if nothing.
  Instant next_deadline() const;

  // Fills the memory part of a heartbeat: everything if `whole`, else what changed since the last call. A report that may not have
  // arrived must be followed by a whole one.
  void fill_report(Instant now, bool whole, MemberReport& report);
  // Blocks came or went, or the catalogue is another, since the last report: worth one at once.
  bool changed() const { return !added_.empty() || !dropped_.empty() || lineage_unsaid_ || !copies_failed_.empty() || !checked_.empty(); }

  // Draining, nothing is being sealed, and readers had `kDrainReadsFor` to finish or hold no grants.
  bool drained(Instant now) const;
  const memory::BlockTable& blocks() const { return blocks_; }
  const std::map<Digest, uint32_t>& stored() const { return stored_; }

  static constexpr Duration kDrainReadsFor = Duration::from_ms(500);
  static constexpr size_t kGrantsMax = 1 << 20;   // Live at once.
  static constexpr size_t kRangesMax = 1 << 16;   // Of one seal.
  static constexpr size_t kWaitingMax = 1024;     // Grants that wait for the disk; one more is answered at once.
  static constexpr Duration kGrantWaitMax = Duration::from_ms(1000);
  static constexpr Duration kDiskGrantMax = Duration::from_ms(1000);
  static constexpr uint64_t kAnswerBytes = 8 * kMiB;      // So much read back is worth an answer; a step of the loader's pipeline.
  static constexpr uint64_t kLoadWindowMax = 256 * kMiB;  // Being read back at once; also at most a quarter of the arena.
  static constexpr size_t kCopiesAtOnce = 4;              // Each up to a block in flight.
  static constexpr Duration kDiskRetry = Duration::from_seconds(10);  // After a write failed the server counts as full for so long.

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

  // A grant whose blocks are all on disk only.
  struct Waiting {
    CallId call = 0;
    Instant asked_at;
    Instant deadline;
    std::vector<Digest> ids;
    std::set<Digest> wanted;    // The same.
    size_t cursor = 0;          // Those before it were begun, or need not be.
    size_t loading = 0;         // Of `wanted`, being read now.
    uint64_t ready_bytes = 0;   // Came into the arena since.
    bool news = false;          // One is gone, or cannot be read: worth an answer.
  };
  struct Loading {
    BlockRef block;
    memory::Extent extent;
    bool stale = false;  // The copy on disk is another one since, or gone.
  };
  struct Copy {
    BlockRef block;
    std::vector<MemoryServerInfo> sources;  // Not tried yet; the first is being tried once it runs.
    std::optional<memory::Extent> room;     // Once it runs.
    bool checking = false;
    bool stale = false;                     // Dropped meanwhile.
  };
  struct Scrubbing {
    BlockRef block;
    bool stale = false;  // As above.
    bool pinned = false;
  };

  void handle(Instant now, const GrantAsked& ask, Actions& actions);
  void handle(Instant now, const SlabAsked& ask, Actions& actions);
  void handle(Instant now, const SealAsked& ask, Actions& actions);
  void handle(Instant now, const AbandonAsked& ask, Actions& actions);
  void handle(Instant now, const SlabRegistered& done, Actions& actions);
  void handle(Instant now, const SlabUnregistered& done, Actions& actions);
  void handle(Instant now, const SealVerified& done, Actions& actions);
  void handle(Instant now, const BlockLoaded& done, Actions& actions);
  void handle(Instant now, const BlockScrubbed& done, Actions& actions);
  void handle(Instant now, const BlockStored& done, Actions& actions);
  void handle(Instant now, const BlocksDropped& drop, Actions& actions);
  void handle(Instant now, const LineageTold& told, Actions& actions);
  void handle(Instant now, const CopiesWanted& wanted, Actions& actions);
  void handle(Instant now, const CopyFetched& done, Actions& actions);
  void handle(Instant now, const CopyChecked& done, Actions& actions);
  void handle(Instant now, const ChecksWanted& wanted, Actions& actions);
  void handle(Instant now, const DrainAsked& drain, Actions& actions);

  void answer(Instant now, CallId call, Instant asked_at, std::span<const Digest> ids, Actions& actions);
  Duration grant_duration() const;
  absl::StatusOr<memory::Extent> admit_slab(const SlabAsked& ask);
  absl::StatusOr<Slabs::iterator> find_open(uint64_t slab, Incarnation incarnation);
  absl::Status reserve_ranges(Instant now, const SealAsked& ask, Slab& slab);
  absl::Status reserve_block(Instant now, const SealRange& range, Slab& slab);
  void release_ranges(Slab& slab);
  absl::StatusOr<SealResult> finish_seal(Instant now, Slab& slab, const absl::Status& verified, Actions& actions);
  void close(Slabs::iterator slab, CallId call, Actions& actions);
  void expire(Instant now, Actions& actions);

  // ---- the disk: memory_server_disk.cc ----
  std::optional<uint32_t> size_of(const Digest& id) const;  // Of a block held or stored.
  std::optional<memory::Extent> make_room(Instant now, uint32_t size_bytes);
  void load_ahead(Instant now, std::span<const Digest> ids, Actions& actions);
  // False: no room, or enough is being read.
  bool load(Instant now, const Digest& id, Actions& actions);
  void pump(Instant now, Actions& actions);
  void arrived(const Digest& id, uint64_t size_bytes);
  void lost(const Digest& id);                      // Neither held nor stored any more.
  void forget_stored(const Digest& id);
  void remove_files(std::vector<Digest> ids, bool aside, Actions& actions);
  void note_came(const BlockRef& block);

  // ---- the scrubber: memory_server_scrub.cc ----
  void scrub(Instant now, Actions& actions);
  bool begin_scrub(const Digest& id, Actions& actions);  // False: it is being written to disk.
  std::optional<Digest> next_to_scrub() const;

  // ---- copies from other servers: memory_server_copy.cc ----
  using Copies = std::map<Digest, Copy>;
  void pump_copies(Instant now, Actions& actions);
  bool begin_copy(Instant now, Copies::iterator copy, Actions& actions);  // False: none can begin before copy_at_.
  void next_source(Copies::iterator copy, const absl::Status& why, Actions& actions);
  void fail_copy(Copies::iterator copy, std::string why);
  void end_copy(Copies::iterator copy);     // Gives its room back.
  void keep_copy(Instant now, const Copy& copy);
  Instant next_copy() const;

  MemoryServerOptions options_;
  memory::BlockTable blocks_;
  memory::Extents slab_extents_;
  Slabs slabs_;
  uint64_t next_slab_ = 1;
  std::deque<Instant> grants_;      // When each live grant ends; in order, since all last equally long.
  uint64_t lineage_;
  uint64_t lineage_sequence_ = 0;
  bool lineage_unsaid_ = false;
  bool draining_ = false;
  Instant drain_began_;
  std::map<Digest, uint32_t> added_;  // Since the last report.
  std::set<Digest> dropped_;

  std::map<Digest, uint32_t> stored_;   // On disk for good -> size.
  uint64_t stored_bytes_ = 0;
  uint64_t disk_reserved_bytes_ = 0;    // By seals under way.
  std::map<Digest, Loading> loading_;
  uint64_t loading_bytes_ = 0;
  std::list<Waiting> waiting_;          // In the order they came.
  bool pump_due_ = false;
  Instant room_at_ = Instant::infinite_future();  // When a load that found no room may find some.
  std::string disk_note_;               // Why the disk took no block lately.
  std::string read_note_;               // Why it gave none.
  Instant disk_full_until_;             // Refused a write: reported as full until then.
  bool disk_refuses_ = false;

  Copies copies_;                       // Ordered, and not over.
  std::deque<Digest> copies_waiting_;   // Those that did not begin.
  size_t copies_running_ = 0;
  Instant copy_at_;                     // No copy begins before.
  std::vector<CopyFailure> copies_failed_;      // These since the last report.
  std::vector<DoubtfulReplica> doubtful_;
  std::vector<Digest> checked_;

  std::set<Digest> to_check_;           // Asked for, before all others.
  std::optional<Scrubbing> scrubbing_;
  std::set<Digest> storing_;            // Being written to disk from the arena, pinned there.
  Digest scrub_cursor_;
  Instant scrub_at_ = Instant::infinite_future();
  uint64_t scrubbed_bytes_ = 0;
  uint64_t read_back_bytes_ = 0;
  uint64_t corrupt_blocks_ = 0;
};

}  // namespace cenote::node
