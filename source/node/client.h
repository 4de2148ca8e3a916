// node/client.h - keeps each request until it is answered: sends it through a router, and when that router or the executor
// is lost, sends it again by the same id through another, until its deadline. Executors drop what they have seen (design section 6).
// A state machine: step(now, events) -> actions; no I/O, clock or threads. client/client.cc feeds it sessions.
//
// A request goes to a router whole if its payload is small and its reply will be. Otherwise it goes as a header; the router answers
// with a ticket, and the payload goes straight to the executor it names, which replies there. What comes back as kUnavailable is tried
// again with back-off, and so, kRefusalsMax times, is an executor's kResourceExhausted: another may have room (between router and
// executor the router does the same). Any other status is the answer; so is kPermissionDenied or kUnauthenticated when every router
// refuses us by it.
//
// A router that falls silent (base/suspicion.h) is not chosen until it speaks again; what it has goes to another as well, if there is one. An
// executor that falls silent loses its ticket's request to the router, which knows others. The first answer counts.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/suspicion.h"
#include "message/infer.h"

namespace cenote::node {

// ---- events -------------------------------------------------------------------------------------------------------------
struct ClientSubmit {
  RequestId id;                // Must not be under way.
  Instant deadline;
  uint64_t payload_bytes = 0;
  uint64_t reply_bytes = 0;    // Expected; 0: unknown.
};
struct ClientCancel { RequestId id; };
struct RouterUp { size_t router = 0; uint32_t credits = 0; Duration beat; };  // Its Welcome came.
struct RouterBeat { size_t router = 0; Duration next; };
struct RouterCredits { size_t router = 0; uint32_t credits = 0; };
struct RouterDown { size_t router = 0; absl::Status why; };
struct ExecutorUp { std::string address; Incarnation incarnation = 0; Duration beat; };
struct ExecutorBeat { std::string address; Duration next; };
struct ExecutorDown { std::string address; absl::Status why; };   // Also: it could not be reached.
struct TicketCame { size_t router = 0; Ticket ticket; };
// From a router, else from the executor at an address.
struct ReplyCame { RequestId id; absl::Status status; size_t router = SIZE_MAX; std::string executor; };
using ClientEvent = std::variant<ClientSubmit, ClientCancel, RouterUp, RouterBeat, RouterCredits, RouterDown, ExecutorUp,
                                 ExecutorBeat, ExecutorDown, TicketCame, ReplyCame>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct SendToRouter { size_t router = 0; RequestId id; bool header_only = false; Duration budget; };
struct OpenExecutor { std::string address; };                     // Answered by ExecutorUp or ExecutorDown.
struct SendToExecutor { std::string address; RequestId id; Digest revision; Duration budget; };
struct CancelAtRouter { size_t router = 0; RequestId id; };
// The request is over. `status` is the reply's; if it is not from a reply: what every router refuses us by, kDeadlineExceeded or kCancelled, or kUnavailable kept
// until the deadline came, each saying what was tried last.
struct ClientDone { RequestId id; absl::Status status; bool replied = false; };
using ClientAction = std::variant<SendToRouter, OpenExecutor, SendToExecutor, CancelAtRouter, ClientDone>;

class RequestKeeper {
 public:
  explicit RequestKeeper(size_t routers);

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<const ClientEvent> events, std::vector<ClientAction>& actions);
  Instant next_deadline() const;
  size_t under_way() const { return requests_.size(); }

  static constexpr Duration kRetryMin = Duration::from_ms(5);
  static constexpr Duration kRetryMax = Duration::from_ms(500);
  static constexpr uint32_t kRefusalsMax = 3;
  static constexpr Duration kConnectBeat = Duration::from_ms(100);  // A third of what an executor may take to welcome us.

 private:
  enum class State : uint8_t { kWaiting, kAtRouter, kAwaitingExecutor, kAtExecutor };
  struct Request {
    RequestId id;
    Instant deadline;
    uint64_t payload_bytes = 0;
    bool large = false;             // Payload or reply: not through a router.
    State state = State::kWaiting;
    Instant not_before;             // While waiting: back-off.
    Duration backoff = kRetryMin;
    size_t router = 0;              // Where it is, or was last.
    bool tried = false;             // `router` means something.
    bool stay = false;              // That router is to have it again: it knows which executor is of no use.
    size_t left_at = SIZE_MAX;      // The router it was at before, which may still answer.
    std::string executor;           // With a ticket.
    Digest revision;
    Incarnation incarnation = 0;
    absl::Status last;              // Why the last try failed.
    uint32_t tries = 0;
    uint32_t refusals = 0;          // By executors that had no room.
  };
  struct Router {
    bool up = false;
    uint32_t credits = 0;
    uint32_t outstanding = 0;
    Duration beat;
    absl::Status why;
  };
  using Requests = std::map<RequestId, Request>;
  using Actions = std::vector<ClientAction>;

  void handle(Instant now, const ClientSubmit& event, Actions& actions);
  void handle(Instant now, const ClientCancel& event, Actions& actions);
  void handle(Instant now, const RouterUp& event, Actions& actions);
  void handle(Instant now, const RouterBeat& event, Actions& actions);
  void handle(Instant now, const RouterCredits& event, Actions& actions);
  void handle(Instant now, const RouterDown& event, Actions& actions);
  void handle(Instant now, const ExecutorUp& event, Actions& actions);
  void handle(Instant now, const ExecutorBeat& event, Actions& actions);
  void handle(Instant now, const ExecutorDown& event, Actions& actions);
  void handle(Instant now, const TicketCame& event, Actions& actions);
  void handle(Instant now, const ReplyCame& event, Actions& actions);

  void leave(Request& request);
  void retry(Instant now, Request& request, const absl::Status& why);
  void wait(Request& request, Instant not_before);
  void finish(Requests::iterator it, absl::Status status, bool replied, Actions& actions);
  void send_waiting(Instant now, Actions& actions);
  void expire(Instant now, Actions& actions);
  void leave_silent_routers(Instant now);
  void send_to_executor(Instant now, Requests::iterator request, Actions& actions);
  bool has_room(size_t router) const;
  bool choose_router(const Request& request, size_t& router) const;
  absl::Status deadline_status(const Request& request) const;
  absl::Status not_allowed() const;

  std::vector<Router> routers_;
  struct Executor {
    Incarnation incarnation = 0;
    Duration beat;
  };
  std::map<std::string, Executor> executors_;     // Connected ones.
  std::map<std::string, uint32_t> at_executors_;  // Requests awaiting or at each. No zeros.
  Suspicion<size_t> router_silence_;
  Suspicion<std::string> executor_silence_;
  Requests requests_;
  // So that a step costs what its events cost, however many requests are under way.
  std::set<std::pair<Instant, RequestId>> deadlines_;  // Of all.
  std::set<RequestId> waiting_;                        // Those in State::kWaiting.
};

}  // namespace cenote::node
