// simulate/session.h - what travels on the simulator's streams: the messages of message/, and those that wire/ has for sessions.
#pragma once

#include <string>
#include <variant>

#include "message/control.h"
#include "message/infer.h"
#include "message/link.h"
#include "simulate/network.h"

namespace cenote::simulate {

struct CancelInfer { RequestId id; };
struct ReserveSlot { RequestId id; Digest revision; Duration expires_in; };
using InferUp = std::variant<InferRequest, CancelInfer, ReserveSlot>;

struct Welcome { Incarnation incarnation = 0; uint32_t credits = 0; bool draining = false; Duration beat; };
struct PeerBeat { Duration next; };
struct RequestStuck { RequestId id; };
struct CreditsChanged { uint32_t credits = 0; bool draining = false; };
struct SlotReleased { RequestId id; absl::Status status; };
using InferDown = std::variant<Welcome, CreditsChanged, InferReply, Ticket, SlotReleased, PeerBeat, RequestStuck>;

inline constexpr Duration kSilenceMax = Duration::from_ms(120);  // limits.silence_max

using SessionWire = Stream<InferUp, InferDown>;      // Client or router -> router or executor.
using JoinWire = Stream<MemberReport, Directive>;    // Member -> controller.
using AttachWire = Stream<ExecutorUp, ExecutorDown>; // Executor -> agent.

}  // namespace cenote::simulate
