// node/router.h - what a router decides: which executor gets a request, when it is tried elsewhere, refused or given up. A state
// machine: step(now, events) -> actions; no I/O, clock or threads.
//
// A request's life: refused at once (draining, queue full, no such model), or queued; then sent to an executor, or, with a payload too
// large for the call, its slot reserved there and a ticket given to the caller, who streams to the executor himself. It ends in
// exactly one of: a reply to its session; a ticket (then the caller holds it, and the slot ends with SlotFreed); nothing, if its session
// closed first. What an executor could not do (kUnavailable, kResourceExhausted, or its link was lost) is sent elsewhere while deadline
// and retry_max allow.
//
// An executor that is waited for and falls silent (base/suspicion.h) is not chosen until it speaks again, and what it has is sent elsewhere
// as well, if somebody else may have it. Whoever replies first counts, the other is told to cancel; executors know a request by its id. Nothing
// is closed and no attempt counted. Callers with tickets see the silence themselves.
//
// Bounds: at most queue_max requests wait when another is admitted (requests that come back from a lost executor are not refused
// any more, so at most queue_max + outstanding_max wait); at most outstanding_max are at executors; never more than an executor's
// credits. Inline payloads are held by reference, neither copied nor changed.
//
// Nothing here must survive a restart: callers hold their requests, the controller sends the view again. Executors that the view no
// longer names serve on while their link lives, since a controller that restarted learns of them one by one.
//
// Cost of a request, predicted: here 6 ordered-map operations and 1 scan of the allowed executors, 2 us. Around it, alone: 2 messages read
// and 2 written, each with 2 system calls, TLS and gRPC's layers, 7 us, one conversion of each between protobuf and structs, 1 us, and for
// each message read one wake-up of gRPC's polling thread, 8 us: 50 us, and no wake-up of ours (bin/turn.h). Under load gRPC's part is shared
// by what travels together (wire/stream_core.h); with 8 together: (28 + 16) / 8 + 4 + 2 = 12 us. Measured: `cenote bench router`.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/suspicion.h"
#include "node/beats.h"
#include "node/router_events.h"

namespace cenote::node {

struct RouterOptions {
  std::string name;
  uint32_t queue_max = 4096;
  uint32_t outstanding_max = 1024;
  uint32_t retry_max = 3;
  Duration deadline = Duration::from_seconds(60);  // Of a request that names none (budget 0).
  Duration silence_max = Duration::from_ms(120);  // Ours, of which callers are told. Executors say their own.
};

struct RouterCounts {
  uint64_t outstanding = 0;  // At executors now, tickets included.
  uint64_t queued = 0;
  uint64_t routed = 0;       // Answered by an executor, or given a ticket.
  uint64_t refused = 0;
  uint64_t retried = 0;
  uint64_t suspected = 0;    // Executors that fell silent while they were waited for.
  StallCount stalls;         // Of this router itself.
};

class Router {
 public:
  explicit Router(RouterOptions options);

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<router::Event> events, std::vector<router::Action>& actions);
  Instant next_deadline() const;   // When step() has something to do without an event.
  RouterCounts counts() const;
  // Told to drain, and no request waits here for its answer. (Tickets given out are between caller and executor.)
  bool drained() const { return draining_ && waiting_answer() == 0; }

  // kNotFound names what is near; kInvalidArgument: not a name, or a digest prefix that fits several; kUnavailable: no view yet.
  absl::StatusOr<Digest> resolve(const std::string& model);

  // A name that the view does not know waits so long for a newer one: a deploy that has just returned may be ahead of it.
  static constexpr Duration kUnknownNameWait = Duration::from_ms(500);
  static constexpr Duration kTicketLife = Duration::from_seconds(10);   // To begin streaming; at most the deadline.
  static constexpr uint32_t kRefusalHeadroom = 1024;
  static constexpr Duration kConnectRetryMin = Duration::from_ms(50);
  static constexpr Duration kConnectRetryMax = Duration::from_ms(1'000);

 private:
  using Actions = std::vector<router::Action>;
  enum class Phase : uint8_t { kQueued, kDelayed, kSent, kReserved };
  struct Request {
    std::shared_ptr<const InferRequest> message;
    router::SessionId session = 0;
    Digest revision;                   // Empty: its name is not known yet.
    Phase phase = Phase::kQueued;
    uint64_t sequence = 0;             // Of arrival; its place in the queue.
    Instant arrived;
    Instant deadline;
    Instant due;                       // While kDelayed.
    Instant sent;
    router::LinkId link = 0;           // While kSent or kReserved.
    router::LinkId left_at = 0;        // Where it was sent first, to an executor that fell silent and may still reply.
    uint32_t attempts = 0;
    std::vector<std::string> tried;    // Executors that failed it.
    absl::Status last_error;
  };
  using Requests = std::map<RequestId, Request>;
  struct Executor {
    std::string address;
    bool in_view = false;
    router::LinkId link = 0;           // 0: none.
    bool up = false;                   // Welcomed.
    bool draining = false;
    uint32_t credits = 0;
    Duration beat;                     // Promised by its welcome.
    Incarnation incarnation = 0;       // Of the link.
    std::set<RequestId> outstanding;   // Also of requests that are forgotten here, until the executor is done with them.
    std::map<Digest, Readiness> readiness;
    Instant connect_at;                // While there is no link.
    Duration backoff = kConnectRetryMin;
  };
  using Executors = std::map<std::string, Executor>;

  // router_requests.cc
  void handle(Instant now, router::RequestArrived& event, Actions& actions);
  void handle(Instant now, router::CancelArrived& event, Actions& actions);
  void handle(Instant now, router::SessionOpened& event, Actions& actions);
  void handle(Instant now, router::SessionClosed& event, Actions& actions);
  void handle(Instant now, router::ReplyArrived& event, Actions& actions);
  void handle(Instant now, router::SlotFreed& event, Actions& actions);
  void handle(Instant now, router::DrainBegan& event, Actions& actions);
  void refuse(router::SessionId session, const RequestId& id, absl::Status status, Actions& actions);
  bool reattach(Instant now, router::SessionId session, const RequestId& id, Actions& actions);
  void enqueue(Requests::iterator request);
  void delay(Requests::iterator request, Instant due);
  void unqueue(Requests::iterator request);
  void retry(Instant now, Requests::iterator request, const std::string& executor, absl::Status why, Actions& actions);
  void answer(Requests::iterator request, absl::Status status, Actions& actions);
  void forget(Requests::iterator request);
  void cancel_at_executors(const Request& request, const RequestId& id, Actions& actions);
  void reply(router::SessionId session, InferReply reply, Actions& actions);
  void expire(Instant now, Actions& actions);
  void dispatch(Instant now, Actions& actions);
  bool dispatch_one(Instant now, Requests::iterator request, Actions& actions);
  void resolve_waiting(Instant now, Actions& actions);
  // More than there is room for: who asks for too much is told so, not silently slowed down.
  uint32_t session_credits() const { return options_.queue_max + options_.outstanding_max + kRefusalHeadroom; }
  size_t waiting_answer() const { return requests_.size() - reserved_; }

  // router_view.cc
  void handle(Instant now, router::ViewChanged& event, Actions& actions);
  void handle(Instant now, router::LinkUp& event, Actions& actions);
  void handle(Instant now, router::LinkCredits& event, Actions& actions);
  void handle(Instant now, router::LinkLost& event, Actions& actions);
  void drop_link(Instant now, const std::string& name, Executor& executor, absl::Status why, Actions& actions);
  void connect(Instant now, Actions& actions);
  bool freed(router::LinkId link, const RequestId& id);

  // router_silence.cc
  void handle(Instant now, router::LinkBeat& event, Actions& actions);
  void handle(Instant now, router::LinkStuck& event, Actions& actions);
  void ask_another(Requests::iterator request, const std::string& executor, const char* why);
  void suspect(router::LinkId link, Actions& actions);
  void trust(router::LinkId link, Actions& actions);
  void heard(Instant now, router::LinkId link, Actions& actions);
  void beat(Instant now, Actions& actions);
  absl::StatusOr<Digest> lookup(const std::string& model) const;
  bool may_serve(const std::string& executor, const Digest& revision) const;

  const RouterOptions options_;
  bool draining_ = false;
  bool has_view_ = false;
  ClusterView view_;
  std::set<Digest> deployed_;
  std::map<std::string, Digest> resolved_;             // Memory of resolve() for the current view.
  Executors executors_;
  std::map<router::LinkId, Executors::iterator> links_;
  router::LinkId next_link_ = 1;
  std::map<router::SessionId, std::set<RequestId>> sessions_;
  Requests requests_;
  std::map<Digest, std::map<uint64_t, RequestId>> queues_;  // By sequence. No empty ones.
  size_t queued_ = 0;                                       // In queues_ or delayed_.
  size_t reserved_ = 0;
  size_t outstanding_ = 0;                                  // Sum over executors.
  std::set<std::pair<Instant, RequestId>> deadlines_;
  std::set<std::pair<Instant, RequestId>> delayed_;
  uint64_t next_sequence_ = 1;
  uint64_t turn_ = 0;
  Suspicion<router::LinkId> suspicion_;
  Beats beats_;
  RouterCounts counts_;
};

}  // namespace cenote::node
