// node/router_events.h - what a router is told and what it does. Sessions are callers' streams, links its own streams to executors; their
// ids are chosen by whoever opens them (sessions: bin/, links: the Router) and never used again.
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "message/infer.h"
#include "message/member.h"

namespace cenote::node::router {

using SessionId = uint64_t;
using LinkId = uint64_t;

// ---- events -------------------------------------------------------------------------------------------------------------
struct ViewChanged { ClusterView view; };
struct SessionOpened { SessionId session = 0; };
struct SessionClosed { SessionId session = 0; };
struct RequestArrived { SessionId session = 0; std::shared_ptr<const InferRequest> request; };
struct CancelArrived { SessionId session = 0; RequestId id; };
struct LinkUp { LinkId link = 0; Incarnation incarnation = 0; uint32_t credits = 0; bool draining = false; Duration beat; };
struct LinkCredits { LinkId link = 0; uint32_t credits = 0; bool draining = false; };
struct LinkBeat { LinkId link = 0; Duration next; };                  // It lives; the next one comes within `next`.
struct LinkStuck { LinkId link = 0; RequestId id; };                  // Its executor waits for something that does not come.
struct LinkLost { LinkId link = 0; absl::Status why; };               // Also: could not be made.
struct ReplyArrived { LinkId link = 0; InferReply reply; };
struct SlotFreed { LinkId link = 0; RequestId id; absl::Status status; };  // A reserved request ended there.
struct DrainBegan {};
using Event = std::variant<ViewChanged, SessionOpened, SessionClosed, RequestArrived, CancelArrived, LinkUp, LinkCredits, LinkBeat, LinkStuck, LinkLost,
                           ReplyArrived, SlotFreed, DrainBegan>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct OpenLink { LinkId link = 0; std::string executor; std::string address; };  // Answer: LinkUp or LinkLost.
struct CloseLink { LinkId link = 0; };                                            // No answer.
// The request as it came, with these in place of its own revision and budget.
struct SendRequest { LinkId link = 0; std::shared_ptr<const InferRequest> request; Digest revision; Duration budget; };
struct SendReserve { LinkId link = 0; RequestId id; Digest revision; Duration expires_in; };
struct SendCancel { LinkId link = 0; RequestId id; };
struct SendReply { SessionId session = 0; InferReply reply; };
struct SendTicket { SessionId session = 0; Ticket ticket; };
struct Announce { SessionId session = 0; uint32_t credits = 0; bool draining = false; };  // First for a session: its welcome.
struct SendBeat { SessionId session = 0; Duration next; bool own = false; };  // own: of the reply that follows; none replaces it.
// For the log: an executor fell silent with `requests` there, which are tried elsewhere now; or it speaks again.
struct Noticed { std::string executor; bool silent = false; size_t requests = 0; };
using Action = std::variant<OpenLink, CloseLink, SendRequest, SendReserve, SendCancel, SendReply, SendTicket, Announce, SendBeat, Noticed>;

}  // namespace cenote::node::router
