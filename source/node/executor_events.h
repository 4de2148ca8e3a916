// node/executor_events.h - what an executor is told and what it does. Sessions are streams of routers and of callers with tickets.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "message/infer.h"
#include "message/member.h"

namespace cenote::node::executor {

using SessionId = uint64_t;

// ---- events: sessions ---------------------------------------------------------------------------------------------------
struct SessionOpened { SessionId session = 0; };
struct SessionClosed { SessionId session = 0; };
struct RequestArrived { SessionId session = 0; std::shared_ptr<InferRequest> request; };
struct ReserveArrived { SessionId session = 0; RequestId id; Digest revision; Duration expires_in; };
struct CancelArrived { SessionId session = 0; RequestId id; };
struct DrainBegan {};
struct AgentBeat { Duration next; };                              // Our agent lives.

// ---- events: revisions --------------------------------------------------------------------------------------------------
struct PrefetchChanged { std::vector<Digest> revisions; };        // Have these ready; complete, in order of preference.
struct EvictAsked { Digest revision; };
// Answers OpenRevision. Ok: it can run, waiting at its gate for what has not arrived. `all_cached`: nothing had to be fetched.
// kResourceExhausted: closing others may make room; kOutOfRange: it can never fit; kCancelled: it is not to be prefetched any more.
struct RevisionOpened { Digest revision; absl::Status status; bool all_cached = false; };
// Weights arrived, were mapped or copied, or cannot be had (kFailed, with status). From the role, when it changes.
struct ReadinessChanged { Digest revision; Readiness readiness = Readiness::kNone; absl::Status status; };
struct RevisionClosed { Digest revision; };                       // Answers CloseRevision: its memory is free.

// ---- events: the computing thread ---------------------------------------------------------------------------------------
struct RunEnded {                                                 // Answers RunModel.
  RequestId id;
  absl::Status status;
  std::vector<Tensor> outputs;
  Waterfall stages;                                               // network, verify, copy, wait, compute and bytes.
};
struct WarmUpEnded { Digest revision; absl::Status status; };     // Answers WarmUp.

using Event = std::variant<SessionOpened, SessionClosed, RequestArrived, ReserveArrived, CancelArrived, DrainBegan, AgentBeat, PrefetchChanged,
                           EvictAsked, RevisionOpened, ReadinessChanged, RevisionClosed, RunEnded, WarmUpEnded>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct SendReply { SessionId session = 0; InferReply reply; };
struct SendFreed { SessionId session = 0; RequestId id; absl::Status status; };
struct Announce { SessionId session = 0; uint32_t credits = 0; bool draining = false; };  // First for a session: its welcome.
struct OpenRevision { Digest revision; bool urgent = false; };    // Again for one that is opening: it became urgent.
struct CloseRevision { Digest revision; };
// We live; the next one comes within `next`. own: of the reply that follows; none replaces it.
struct SendBeat { SessionId session = 0; Duration next; bool own = false; };
struct SendStuck { SessionId session = 0; RequestId id; };        // To its router: our agent is silent and the request needs it.
struct Noticed { bool silent = false; };                          // For the log: the agent fell silent, or speaks again.
// At most one WarmUp is under way, or RunModels of one revision that run in this order: more than one where runs are short.
struct RunModel {
  RequestId id;
  Digest revision;
  std::shared_ptr<InferRequest> request;
  Instant deadline;
  bool loading = false;                                           // Its weights were not all there: report the load's stages.
};
struct WarmUp { Digest revision; };
using Action = std::variant<SendReply, SendFreed, Announce, SendBeat, SendStuck, Noticed, OpenRevision, CloseRevision, RunModel, WarmUp>;

}  // namespace cenote::node::executor
