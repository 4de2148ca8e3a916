// node/agent.h - what an agent decides: what lies in its host's cache, what is fetched in which order, who may use it, and which
// executors live. A state machine: step(now, events) -> actions; no I/O, clock or threads.
//
// A revision's way: acquired by an executor -> placed (its blocks get slots, others are evicted) -> manifest fetched and checked against
// the revision's digest -> weights fetched in order of first use -> held until the executors release it -> cached until evicted.
// Acquired is answered once the manifest is there: the weights then arrive while the executor maps them. Urgent ones (a request
// waits) go before prefetches. Acquiring what one holds already is a touch: it counts as use, and restarts a fetch that failed.
//
// Room: unpinned blocks leave by themselves, least recently used first. If an urgent revision does not fit beside those held, holders
// of the least recently used ones are asked to let go (EvictRevision), and the acquire waits for that up to acquire_timeout. Prefetches
// never displace what is held. A revision that is evicted by command, or no longer deployed, leaves once its holders let go; executors
// that reported a copy in their device's memory are told too.
//
// Executors: one per device, spawned, restarted with back-off, killed when silent. What an executor held is released when its stream
// ends or its process does.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/suspicion.h"
#include "node/agent_events.h"
#include "node/cache_index.h"

namespace cenote::node {

struct AgentOptions {
  std::string name;
  std::vector<std::string> devices;      // "host:0", in the order of the settings.
  uint64_t cache_bytes = 0;
  uint32_t cache_words = 0;
  std::string cache_path;                // For Attached.
  uint64_t cache_file_bytes = 0;
  bool check_cached = true;              // What was in nobody's use is checked before it is used again.
  Duration unknown_timeout = Duration::from_seconds(2);     // An acquired revision may be deployed just now.
  Duration acquire_timeout = Duration::from_seconds(30);    // Waiting for room.
  Duration retry_min = Duration::from_ms(200);              // Of failed fetches, doubling.
  uint32_t tries_max = 4;
  Duration restart_min = Duration::from_ms(200);            // Of executors, doubling.
  Duration restart_max = Duration::from_seconds(5);
  Duration start_timeout = Duration::from_seconds(60);      // From spawn to the first report.
  Duration silence_max = Duration::from_seconds(15);        // Between reports; then it is killed.
  Duration beat = Duration::from_ms(40);                    // To executors, so that they notice our silence.
};

struct AgentCounts {
  uint64_t cache_capacity_bytes = 0;
  uint64_t cache_used_bytes = 0;
  uint64_t cache_pinned_bytes = 0;
};

class Agent {
 public:
  explicit Agent(AgentOptions options);

  // Moves from `events`.
  void step(Instant now, std::span<agent::Event> events, std::vector<agent::Action>& actions);
  // When to step again though nothing happens.
  Instant next_step(Instant now) const;

  AgentCounts counts() const;
  std::vector<ExecutorReport> executors() const;
  uint64_t suspected() const { return suspected_; }  // Executors that fell silent, so far.
  bool draining() const { return draining_; }
  bool drained() const;   // No executor is left.

 private:
  struct Pending {
    agent::StreamId stream = 0;
    uint64_t ticket = 0;
    bool urgent = false;
    Instant since;
  };
  enum class Phase : uint8_t { kIdle, kManifest, kChecking, kReady };
  struct Revision {
    RevisionRecord record;
    bool deployed = true;             // Still in the assignment.
    bool evicting = false;            // Leaves once nobody holds it.
    bool releasing = false;           // Holders were asked to let go, for room.
    bool placed = false;              // Its blocks are pinned.
    Phase phase = Phase::kIdle;
    std::vector<BlockEntry> blocks;   // With sums, once checked. Kept while the record lives.
    std::set<agent::StreamId> holders;
    std::vector<Pending> pending;
    uint64_t job = 0;                 // 0: none.
    bool job_urgent = false;
    bool job_cancelled = false;
    uint32_t tries = 0;
    std::optional<Instant> retry_at;
    Instant last_use;
    bool wanted() const { return !holders.empty() || !pending.empty(); }
  };
  struct Executor {
    int64_t pid = 0;                  // 0: not running.
    agent::StreamId stream = 0;       // 0: not attached.
    Instant spawned_at;
    Instant heard_at;
    std::optional<Instant> spawn_at;  // Empty: spawned, or being spawned.
    Duration backoff;
    bool killing = false;
    uint64_t restarts = 0;
    ExecutorReport report;
    std::optional<std::vector<Digest>> told_prefetch;
  };
  using Revisions = std::map<Digest, Revision>;

  // agent.cc
  void on(agent::AssignmentCame& event);
  void on(agent::ExecutorSaid& event);
  void on(agent::DrainBegan&);
  void evict(Revision& revision);
  static bool has_copy(const Executor& executor, const Revision& revision);
  void tell(agent::StreamId stream, ExecutorDown message) { actions_->push_back(agent::Tell{stream, std::move(message)}); }
  // agent_executors.cc
  void on(agent::StreamEnded& event);
  void on(agent::ExecutorSpawned& event);
  void on(agent::ExecutorExited& event);
  void on_report(agent::StreamId stream, const ExecutorReport& report);
  void watch_executors();
  void awake();
  void heard(size_t device, const ExecutorUp& message);
  void watch_beats();
  void tell_prefetch(size_t device);
  std::optional<size_t> device_of(agent::StreamId stream) const;
  bool prefetches(agent::StreamId stream, const Digest& revision) const;
  // agent_revisions.cc
  void on(agent::ManifestChecked& event);
  void on(agent::FetchEnded& event);
  void on_acquire(agent::StreamId stream, const Acquire& acquire);
  void on_want(const Want& want);
  void on_release(agent::StreamId stream, const Digest& revision);
  void drop_stream(agent::StreamId stream);
  void advance(Revision& revision);
  bool place(Revision& revision);
  void make_room(const Revision& revision, uint64_t shortage_bytes);
  bool fetch(Revision& revision, std::span<const BlockEntry> blocks, bool ahead);
  void answer(Revision& revision);
  void refuse(Revision& revision, const absl::Status& status, bool urgent_too);
  void settle(Revision& revision);
  void apply(const CacheIndex::Change& change);
  void expire();
  std::vector<BlockRef> all_blocks(const RevisionRecord& record) const;
  std::vector<CacheExtent> extents(std::span<const BlockRef> refs) const;
  bool whole(std::span<const BlockRef> refs) const;

  const AgentOptions options_;
  CacheIndex index_;
  Instant now_;
  std::vector<agent::Action>* actions_ = nullptr;
  Revisions revisions_;
  std::map<Digest, std::vector<Pending>> unknown_;  // Acquired, not in the assignment (yet).
  std::vector<Executor> executors_;
  std::map<Digest, std::vector<std::string>> replicas_;
  std::map<std::string, std::vector<Digest>> prefetch_;
  std::vector<MemoryServerInfo> servers_;
  std::optional<uint64_t> evicted_version_;
  Suspicion<size_t> silence_;        // Devices' executors.
  Instant beat_at_;
  uint64_t suspected_ = 0;
  uint64_t next_job_ = 1;
  bool room_changed_ = false;
  bool draining_ = false;
};

}  // namespace cenote::node
