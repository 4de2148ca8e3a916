// wire/convert_infer.h - requests, replies, tickets and what else a Session carries <-> protobuf. Rules: wire/convert_record.h.
//
// Tensors' bytes are moved, never copied: from_proto() takes its message by rvalue and empties it, and so does to_proto() of a
// reply. A request is written from a const reference (its holder keeps it to send it again), which copies its bytes once.
#pragma once

#include <variant>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "message/infer.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

// ---- what sessions say, beside InferRequest, InferReply and Ticket ------------------------------------------------------
struct CancelInfer { RequestId id; };
struct ReserveSlot {           // Router to executor: a ticket was given out; hold a slot for it.
  RequestId id;
  Digest revision;
  Duration expires_in;
};
struct SlotReleased {          // Executor to router: that request ended.
  RequestId id;
  absl::Status status;
};
struct Welcome {               // First message of every server.
  Incarnation incarnation = 0;
  std::string name;
  uint32_t credits = 0;        // Requests the sender may have outstanding on this session.
  bool draining = false;
  Duration beat;               // While the other side waits, something comes at least so often; a Beat may say otherwise. 0: not so.
};
struct PeerBeat {
  Duration next;
  bool own = false;            // Belongs to what is sent after it: no later beat takes its place. Not on the wire.
};
struct RequestStuck { RequestId id; };  // Executor to router: it waits for something that does not come.
struct CreditsChanged {
  uint32_t credits = 0;
  bool draining = false;
};
inline constexpr uint32_t kProtocolVersion = 1;

using InferUp = std::variant<InferRequest, CancelInfer, ReserveSlot>;
using InferDown = std::variant<Welcome, InferReply, Ticket, SlotReleased, CreditsChanged, PeerBeat, RequestStuck>;

// ---- conversions --------------------------------------------------------------------------------------------------------
void to_proto(const RequestId& id, v1::RequestId* proto);
RequestId from_proto(const v1::RequestId& proto);

// With bytes, a tensor must have exactly what dtype and shape say; without, `bytes_elsewhere` must allow it.
void to_proto(Tensor&& tensor, v1::Tensor* proto);
void to_proto(const Tensor& tensor, v1::Tensor* proto);
absl::StatusOr<Tensor> from_proto(v1::Tensor&& proto, bool bytes_elsewhere);

// payload_bytes is recomputed from the shapes and must not exceed kPayloadBytesMax. Bytes may be absent only with by_ticket, and
// then of all inputs.
void to_proto(const InferRequest& request, v1::Infer* proto);
absl::StatusOr<InferRequest> from_proto(v1::Infer&& proto);

void to_proto(InferReply&& reply, v1::Reply* proto);
absl::StatusOr<InferReply> from_proto(v1::Reply&& proto);

void to_proto(const Waterfall& waterfall, v1::Waterfall* proto);
absl::StatusOr<Waterfall> from_proto(const v1::Waterfall& proto);

void to_proto(const Ticket& ticket, v1::Ticket* proto);
absl::StatusOr<Ticket> from_proto(const v1::Ticket& proto);

void to_proto(const ReserveSlot& reserve, v1::Reserve* proto);
absl::StatusOr<ReserveSlot> from_proto(const v1::Reserve& proto);

// kFailedPrecondition: the peer speaks another protocol version.
void to_proto(const Welcome& welcome, v1::Welcome* proto);
absl::StatusOr<Welcome> from_proto(const v1::Welcome& proto);

// kInvalidArgument also for a kind that this version does not know.
v1::InferenceUp to_proto(const InferRequest& request);
v1::InferenceUp to_proto(const CancelInfer& cancel);
v1::InferenceUp to_proto(const ReserveSlot& reserve);
absl::StatusOr<InferUp> from_proto(v1::InferenceUp&& proto);
v1::InferenceDown to_proto(InferDown&& message);
absl::StatusOr<InferDown> from_proto(v1::InferenceDown&& proto);

// The message and those that it carries, one after the other, until one is not well formed: that status. kInvalidArgument also if they are
// more than kMergedMax, or carry others themselves.
absl::Status take_each(v1::InferenceUp&& proto, absl::FunctionRef<void(InferUp)> take);
absl::Status take_each(v1::InferenceDown&& proto, absl::FunctionRef<void(InferDown)> take);

}  // namespace cenote::wire
