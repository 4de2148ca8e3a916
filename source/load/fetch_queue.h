// load/fetch_queue.h - which chunks are still to be read, from whom, and when a job is finished. Pure: no clock, no I/O; the
// fetcher asks next(), posts the read and tells the outcome.
//
// Order: chunks that somebody waits for, then urgent jobs, then the rest in the order they came; blocks in the job's order. Urgent jobs
// take turns, read by read: whichever has had the fewest bytes is next, so that a small revision that one device waits for does not wait
// for the whole of a large one that another asked for first. A job that comes later, or that could not be read for a while, begins where
// the others are: what they got meanwhile is not made up for. Nobody waits for the rest, and whole ones are worth more. A block wanted by
// several jobs is one piece of work. Replicas are taken in the job's order; slow ones come after the others, and one that sent corrupt
// bytes of a block last for that block. Kept chunks are checked job by job, urgent ones first. Thread-compatible.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <utility>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load/plan.h"
#include "message/fetch.h"

namespace cenote::load {

enum class Availability : uint8_t {
  kReady,    // A grant covers the block and the server answers.
  kPending,  // A grant has to come first.
  kLater,    // The server failed a moment ago, or does not hold the block.
};

class ReplicaView {
 public:
  virtual ~ReplicaView() = default;
  virtual Availability availability(const std::string& server, const Digest& block, Instant now) const = 0;
  // kReady, and the grant need not be renewed yet.
  virtual bool fresh(const std::string& server, const Digest& block, Instant now) const = 0;
  // Asked only where no other can be: somebody has not heard of it for a moment.
  virtual bool avoided(const std::string&) const { return false; }
  // Asked only where no other can be that is not avoided: its reads take much longer than the others'.
  virtual bool slow(const std::string&, Instant) const { return false; }
};

struct FetchLimits {
  uint64_t read_bytes = kMiB;
  uint32_t corrupt_max = 8;                          // Per block, before its jobs fail with kDataLoss.
  Duration stall_max = Duration::from_seconds(3);    // A job none of whose replicas can be read for so long fails.
};

class FetchQueue {
 public:
  // One block. Its chunks are each in one of five states; the masks are disjoint and fill all().
  struct Work {
    FetchBlock block;
    uint32_t kept = 0;     // There since an earlier use: to be checked, and read if they changed.
    uint32_t open = 0;     // To be read.
    uint32_t flying = 0;   // In a read.
    uint32_t landed = 0;   // Read, not checked.
    uint32_t done = 0;     // Checked and published.
    uint32_t wanted = 0;
    uint32_t corrupt = 0;  // Times that bytes came wrong.
    bool removed = false;  // Nobody wants it any more; stays until nothing flies.
    std::set<std::string> distrusted;
    std::set<uint64_t> jobs;
    std::set<uint64_t> draining_jobs;  // Ended, but wait for flying reads of this removed work.
    uint32_t all() const { return all_chunks(block.ref.size_bytes); }
  };
  struct Read {
    std::shared_ptr<Work> work;
    ChunkRun run;
    std::string server;
  };

  explicit FetchQueue(FetchLimits limits) : limits_(limits) {}

  void add(FetchJob job);
  void cancel(uint64_t job);   // Its result (kCancelled) comes when nothing of it flies. Unknown jobs: nothing.
  void promote(uint64_t job);  // To urgent. Unknown jobs: nothing.
  void want(const Digest& block, uint32_t chunks);

  // The next read, its chunks marked as flying. Empty: nothing that can be read now. Servers whose grants are missing or old are
  // added to `needed`.
  std::optional<Read> next(const ReplicaView& replicas, Instant now, std::set<std::string>& needed);
  // Blocks still to be read, or to be granted ahead, whose first usable replica is `server` and for which the grant is missing or
  // old; at most `limit`.
  std::vector<Digest> ungranted(const std::string& server, const ReplicaView& replicas, Instant now, size_t limit) const;

  // The read's bytes are in the cache. Returns the chunks to check now: those of the read, or of the whole block (the last read of a
  // block without sums), or none.
  uint32_t arrived(const Read& read, Instant now);
  // What the check gave; `good` chunks were published before this call. The others are read again, elsewhere if possible.
  void checked(const Read& read, uint32_t checked, uint32_t good, Duration verify);
  // The next block with kept chunks: those are its `landed` ones then, to be checked now and told to kept_checked(). Null: none.
  std::shared_ptr<Work> next_kept();
  // `good` of its landed chunks were published before this call; the others are read.
  void kept_checked(const std::shared_ptr<Work>& work, uint32_t checked, uint32_t good, Duration verify);
  // The read failed; nothing writes into its target any more.
  void failed(const Read& read);

  // Gives up jobs that stalled; returns when to call again.
  Instant expire(Instant now);
  // Jobs that ended since the last call.
  std::vector<FetchResult> take_finished();
  // Blocks given up since the last call: nobody fetches them any more, waiters must be told.
  std::vector<CacheExtent> take_given_up();

  bool idle() const { return jobs_.empty() && works_.empty(); }

 private:
  struct Job {
    uint64_t id = 0;
    bool urgent = false;
    uint64_t turn = 0;      // Urgent ones: at what level of bytes it is next.
    std::vector<std::shared_ptr<Work>> works;
    std::vector<FetchBlock> ahead;
    size_t cursor = 0;      // Works before it have nothing open.
    size_t kept_cursor = 0; // Works before it have nothing kept.
    size_t unfinished = 0;  // Works not done.
    size_t draining = 0;    // With `ended`: removed works whose reads still fly.
    bool ended = false;
    std::optional<Instant> first_read;
    Instant last_byte;
    std::optional<Instant> stalled_since;
    FetchResult result;
  };

  void insert_in_order(Job& job);
  void take_turn(Job& job, uint64_t bytes);
  std::optional<Read> next_of(Job& job, const ReplicaView& replicas, Instant now, std::set<std::string>& needed);
  // Replicas of a smaller rank are asked first.
  static constexpr int kRanks = 3;
  static int rank(const std::string& server, const std::set<std::string>& distrusted, const ReplicaView& replicas, Instant now);
  // Which replica to use now; `pending` if a grant must come first.
  std::optional<std::string> choose(const Work& work, const ReplicaView& replicas, Instant now, std::set<std::string>& needed,
                                    bool& pending) const;
  Read start(const std::shared_ptr<Work>& work, const std::string& server, Instant now);
  void reopen(Work& work, uint32_t chunks);
  void quiet(const std::shared_ptr<Work>& work);
  void complete(std::shared_ptr<Work> work);
  void end(Job& job, absl::Status status);
  void finish(uint64_t id);
  bool wanted_open(const Work& work) const { return !work.removed && (work.wanted & work.open) != 0; }

  FetchLimits limits_;
  std::map<uint64_t, Job> jobs_;
  std::vector<uint64_t> order_;  // Urgent first, by turn, then the rest, by arrival; no ended ones.
  uint64_t turn_ = 0;            // The level at which an urgent job read last.
  std::map<Digest, std::shared_ptr<Work>> works_;
  std::list<std::shared_ptr<Work>> wanted_;
  std::vector<FetchResult> finished_;
  std::vector<CacheExtent> given_up_;
};

}  // namespace cenote::load
