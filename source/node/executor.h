// node/executor.h - what an executor decides: which requests it admits, in what order they run, which revisions it holds. A state
// machine: step(now, events) -> actions; no I/O, clock or threads; the role loads and computes.
//
// Admission. A session may have `credits` requests and reservations here; all together at most queue_max wait beyond the running one
// and their payloads at most held_bytes_max. More is refused (kResourceExhausted), never dropped. A caller with a ticket takes the slot
// that his router reserved; without a slot (it expired, or has not come yet) he is admitted like anyone else. A reservation that comes
// after its payload takes over the slot, or is freed at once if the request is over already; the reply stays the caller's.
//
// Once only. A request id that waits or runs is not admitted again: it answers to the session that named it last, and the one before
// is told SendFreed. The replies of finished ids are remembered for kReplyMemory where they are small (kRememberedBytesMax), so a caller
// whose stream broke with the answer in it does not compute twice; a large reply is computed again, which gives the same answer:
// graphs are deterministic and weights immutable.
//
// Order. First come, first served among requests whose revision is open; one that is still being opened holds up nobody else.
// A request may start while its weights arrive; it then has the computing thread until it is done. Where a revision's runs are short
// (kAheadComputeMax) up to kAheadMax are handed to that thread at once, so that it need not be woken for each.
//
// Silence. Whoever waits hears that we live (node/beats.h). When our agent is silent, a request whose weights it has to bring is said to be
// stuck: its router may give it to another beside us. It stays here too. One with a ticket waits.
//
// Revisions. Opened for requests (urgent) or because the controller assigned them (then warmed up while nothing waits, and reported
// ready after that). Where room is short, the least recently used idle one that is not assigned is closed, for a request also
// one that is; until it has room enough nothing is prefetched. Weights that cannot be had close the revision; its requests end with kUnavailable, so that routers try elsewhere.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/suspicion.h"
#include "node/beats.h"
#include "node/executor_events.h"

namespace cenote::node {

struct ExecutorOptions {
  std::string name;                  // "agent-0/host:0"
  uint32_t credits = 4;              // For each session.
  uint32_t queue_max = 64;
  uint64_t held_bytes_max = 1ull << 30;
  uint64_t payload_bytes_max = 256ull << 20;  // Of one reply; inputs are checked where they come in.
  Duration silence_max = Duration::from_ms(120);
};

class Executor {
 public:
  explicit Executor(ExecutorOptions options);

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<executor::Event> events, std::vector<executor::Action>& actions);
  Instant next_deadline() const;
  // Told to drain, and nothing waits or runs.
  bool drained() const { return draining_ && requests_.empty() && !computing_; }
  // credits, running, served and revisions of a heartbeat.
  void fill_report(ExecutorReport& report) const;
  // True if some revision's readiness may have changed since the last call: worth a report at once.
  bool take_readiness_changed() { return std::exchange(readiness_changed_, false); }

  static constexpr Duration kReplyMemory = Duration::from_seconds(30);
  static constexpr size_t kRememberedBytesMax = 64 << 10;
  static constexpr size_t kRememberedMax = 1024;
  static constexpr size_t kAheadMax = 16;
  static constexpr Duration kAheadComputeMax = Duration::from_us(500);
  static constexpr Duration kReopenAfter = Duration::from_seconds(1);  // An assigned revision whose weights could not be had.

 private:
  using Actions = std::vector<executor::Action>;
  enum class Phase : uint8_t { kReserved, kQueued, kRunning };
  struct Request {
    Phase phase = Phase::kQueued;
    executor::SessionId holder = 0;    // Whose credits it takes. 0: his session ended.
    executor::SessionId caller = 0;    // Who gets the reply; the holder, or a caller with a ticket. 0: none now.
    std::shared_ptr<InferRequest> message;
    Digest revision;
    uint64_t sequence = 0;
    uint64_t bytes = 0;
    Instant arrived;
    Instant deadline;                  // Of the request, or of the reservation.
    Instant opened;                    // When its revision could run; arrived, if it could already.
    Instant began;
    Temperature temperature = Temperature::kUnknown;  // Unknown: decided when the revision opens.
    bool loading = false;
    bool unreserved = false;           // A caller's with a ticket whose reservation has not come.
    bool cancelled = false;            // While it runs.
    bool stuck_told = false;
  };
  using Requests = std::map<RequestId, Request>;
  enum class Hold : uint8_t { kOpening, kOpen, kClosing };
  struct Revision {
    Hold hold = Hold::kOpening;
    bool urgent = false;
    bool all_cached = false;
    bool complete = false;             // All weights are where they are computed on.
    bool warm = false;
    bool evict = false;                // Close it as soon as it is idle.
    uint64_t runs = 0;
    Duration compute = Duration::from_seconds(3600);  // Of the last run.
    uint64_t used = 0;                 // Step of last use.
    Readiness readiness = Readiness::kLoading;
  };
  using Revisions = std::map<Digest, Revision>;

  // executor_requests.cc
  void handle(Instant now, executor::SessionOpened& event, Actions& actions);
  void handle(Instant now, executor::SessionClosed& event, Actions& actions);
  void handle(Instant now, executor::RequestArrived& event, Actions& actions);
  void handle(Instant now, executor::ReserveArrived& event, Actions& actions);
  void handle(Instant now, executor::CancelArrived& event, Actions& actions);
  void handle(Instant now, executor::DrainBegan& event, Actions& actions);
  void handle(Instant now, executor::RunEnded& event, Actions& actions);
  absl::Status admit(executor::SessionId session, uint64_t bytes) const;
  bool attach(Instant now, executor::SessionId session, InferRequest& message, Requests::iterator request, Actions& actions);
  void queue(Instant now, Requests::iterator request, std::shared_ptr<InferRequest> message);
  void set_holder(Requests::iterator request, executor::SessionId session);
  absl::Status check_reply(std::span<const Tensor> outputs) const;
  void finish(Instant now, Requests::iterator request, InferReply reply, Actions& actions);
  void fail(Instant now, Requests::iterator request, absl::Status status, Actions& actions);
  void remember(Instant now, const InferReply& reply, bool reservation_due);
  void expire(Instant now, Actions& actions);
  bool waits(executor::SessionId session) const;
  void handle(Instant now, executor::AgentBeat& event, Actions& actions);
  void watch_agent(Instant now, Actions& actions);

  // executor_revisions.cc
  void handle(Instant now, executor::PrefetchChanged& event, Actions& actions);
  void handle(Instant now, executor::EvictAsked& event, Actions& actions);
  void handle(Instant now, executor::RevisionOpened& event, Actions& actions);
  void handle(Instant now, executor::ReadinessChanged& event, Actions& actions);
  void handle(Instant now, executor::RevisionClosed& event, Actions& actions);
  void handle(Instant now, executor::WarmUpEnded& event, Actions& actions);
  void schedule(Instant now, Actions& actions);
  void open_wanted(Instant now, Actions& actions);
  void note_failure(Instant now, const Digest& revision, const absl::Status& status, Actions& actions);
  bool make_room(const Digest& wanted, bool urgent, Actions& actions);
  bool idle(const Digest& revision) const;
  void close(Revisions::iterator revision, Actions& actions);
  bool may_run(const Revision& revision, const Digest& digest) const;
  void run(Instant now, Requests::iterator request, Revision& revision, Actions& actions);
  void fail_waiting(Instant now, const Digest& revision, const absl::Status& status, Actions& actions);

  struct Session {
    uint32_t outstanding = 0;
  };
  const ExecutorOptions options_;
  bool draining_ = false;
  std::map<executor::SessionId, Session> sessions_;
  Beats beats_;
  Suspicion<int> agent_silence_;
  Requests requests_;
  std::map<uint64_t, RequestId> queue_;           // kQueued, by arrival.
  std::set<std::pair<Instant, RequestId>> deadlines_;  // kQueued and kReserved.
  uint64_t held_bytes_ = 0;
  uint64_t next_sequence_ = 1;
  struct Remembered {
    std::optional<InferReply> reply;              // If it is Ok and small.
    bool reservation_due = false;                 // It ended before its router's reservation came.
  };
  std::map<RequestId, Remembered> remembered_;
  std::deque<std::pair<Instant, RequestId>> remembered_order_;

  Revisions revisions_;
  bool readiness_changed_ = false;
  std::vector<Digest> prefetch_;
  std::set<Digest> assigned_;                     // The same, to look up.
  struct Failure {
    absl::Status status;
    Instant again;                                // When an assigned one is tried anew without being asked.
  };
  std::map<Digest, Failure> failed_;
  std::set<Digest> waits_for_room_;               // Opening failed for want of room; tried again when a revision has closed.
  std::set<Digest> short_of_room_;                // Requests wait for these, and room is being made: nothing is prefetched into it.
  bool computing_ = false;
  std::optional<Digest> computing_revision_;
  std::deque<RequestId> running_;                 // In the order in which they end. Empty while it warms up.
  uint64_t steps_ = 0;
  uint64_t served_ = 0;
};

}  // namespace cenote::node
