#include "wire/convert_infer.h"

#include "base/status.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

using TensorList = google::protobuf::RepeatedPtrField<v1::Tensor>;

void write_tensor_head(const Tensor& tensor, v1::Tensor* proto) {
  proto->set_name(tensor.name);
  proto->set_dtype(static_cast<uint32_t>(tensor.dtype));
  proto->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
}

// Bytes that dtype and shape ask for; at most kPayloadBytesMax.
absl::StatusOr<uint64_t> tensor_bytes(const Tensor& tensor) {
  CENOTE_ASSIGN_OR_RETURN(const int64_t count, element_count(tensor.shape));
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(count), dtype_bytes(tensor.dtype), &bytes) || bytes > kPayloadBytesMax) {
    return absl::ResourceExhaustedError(str_cat("tensor '", tensor.name, "' ", describe(tensor.dtype, tensor.shape),
                                                ": more than the ", kPayloadBytesMax, " bytes a payload may have"));
  }
  return bytes;
}

// Moves the tensors out; returns the bytes their shapes ask for.
absl::StatusOr<uint64_t> read_tensors(std::string_view field, TensorList* list, bool bytes_elsewhere, std::vector<Tensor>* out) {
  CENOTE_RETURN_IF_ERROR(check_count(field, list->size(), kTensorsMax));
  out->reserve(list->size());
  uint64_t total = 0;
  for (v1::Tensor& proto : *list) {
    CENOTE_ASSIGN_OR_RETURN(Tensor tensor, from_proto(std::move(proto), bytes_elsewhere));
    CENOTE_ASSIGN_OR_RETURN(const uint64_t bytes, tensor_bytes(tensor));
    total += bytes;
    if (total > kPayloadBytesMax) {
      return absl::ResourceExhaustedError(str_cat(field, ": more than the ", kPayloadBytesMax, " bytes a payload may have"));
    }
    out->push_back(std::move(tensor));
  }
  return total;
}

template <typename Kind, typename Proto>
absl::Status take_all(Proto&& proto, absl::FunctionRef<void(Kind)> take) {
  CENOTE_RETURN_IF_ERROR(check_count("messages in one", proto.more_size() + 1, kMergedMax));
  CENOTE_ASSIGN_OR_RETURN(Kind first, from_proto(std::move(proto)));
  take(std::move(first));
  for (Proto& more : *proto.mutable_more()) {
    if (more.more_size() > 0) return absl::InvalidArgumentError("a message that another one carries carries others itself");
    CENOTE_ASSIGN_OR_RETURN(Kind next, from_proto(std::move(more)));
    take(std::move(next));
  }
  return absl::OkStatus();
}

}  // namespace

void to_proto(const RequestId& id, v1::RequestId* proto) {
  proto->set_high(id.high);
  proto->set_low(id.low);
}

RequestId from_proto(const v1::RequestId& proto) { return {.high = proto.high(), .low = proto.low()}; }

void to_proto(Tensor&& tensor, v1::Tensor* proto) {
  write_tensor_head(tensor, proto);
  proto->set_data(std::move(tensor.bytes));
}

void to_proto(const Tensor& tensor, v1::Tensor* proto) {
  write_tensor_head(tensor, proto);
  proto->set_data(tensor.bytes);
}

absl::StatusOr<Tensor> from_proto(v1::Tensor&& proto, bool bytes_elsewhere) {
  CENOTE_RETURN_IF_ERROR(check_text("tensor name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_count("tensor dimensions", proto.shape_size(), kRankMax));
  if (proto.dtype() > 0xff || !dtype_valid(static_cast<int>(proto.dtype()))) {
    return absl::InvalidArgumentError(str_cat("tensor '", proto.name(), "': dtype ", proto.dtype(), " is not known"));
  }
  Tensor tensor{.name = std::move(*proto.mutable_name()), .dtype = static_cast<DType>(proto.dtype()),
                .shape = {proto.shape().begin(), proto.shape().end()}, .bytes = std::move(*proto.mutable_data())};
  if (tensor.bytes.empty() && bytes_elsewhere) {
    CENOTE_RETURN_IF_ERROR(element_count(tensor.shape).status());
  } else {
    CENOTE_RETURN_IF_ERROR(check_tensor(tensor));
  }
  return tensor;
}

void to_proto(const InferRequest& request, v1::Infer* proto) {
  to_proto(request.id, proto->mutable_id());
  proto->set_model(request.model);
  proto->set_revision(digest_bytes(request.revision));
  proto->set_budget_us(request.budget.us());
  for (const Tensor& input : request.inputs) to_proto(input, proto->add_inputs());
  proto->set_payload_bytes(request.payload_bytes);
  proto->set_by_ticket(request.by_ticket);
}

absl::StatusOr<InferRequest> from_proto(v1::Infer&& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("model", proto.model(), kNameBytesMax));
  InferRequest request{.id = from_proto(proto.id()), .model = std::move(*proto.mutable_model()), .by_ticket = proto.by_ticket()};
  CENOTE_ASSIGN_OR_RETURN(request.revision, digest_of("revision", proto.revision(), true));
  CENOTE_ASSIGN_OR_RETURN(request.budget, duration_of("budget", proto.budget_us()));
  uint64_t carried = 0;
  for (const v1::Tensor& input : proto.inputs()) carried += input.data().size();
  const bool bytes_elsewhere = proto.by_ticket() && carried == 0;
  CENOTE_ASSIGN_OR_RETURN(request.payload_bytes,
                          read_tensors("inputs", proto.mutable_inputs(), bytes_elsewhere, &request.inputs));
  return request;
}

void to_proto(InferReply&& reply, v1::Reply* proto) {
  to_proto(reply.id, proto->mutable_id());
  to_proto(reply.status, proto->mutable_status());
  for (Tensor& output : reply.outputs) to_proto(std::move(output), proto->add_outputs());
  proto->set_revision(digest_bytes(reply.revision));
  proto->set_executor(reply.executor);
  to_proto(reply.waterfall, proto->mutable_waterfall());
}

absl::StatusOr<InferReply> from_proto(v1::Reply&& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("executor", proto.executor(), kNameBytesMax));
  InferReply reply{.id = from_proto(proto.id()), .status = from_proto(proto.status()),
                   .executor = std::move(*proto.mutable_executor())};
  CENOTE_ASSIGN_OR_RETURN(reply.revision, digest_of("revision", proto.revision(), true));
  CENOTE_ASSIGN_OR_RETURN(reply.waterfall, from_proto(proto.waterfall()));
  CENOTE_RETURN_IF_ERROR(read_tensors("outputs", proto.mutable_outputs(), false, &reply.outputs).status());
  return reply;
}

void to_proto(const Waterfall& w, v1::Waterfall* proto) {
  proto->set_temperature(static_cast<uint32_t>(w.temperature));
  proto->set_queue_us(w.queue_us);
  proto->set_resolve_us(w.resolve_us);
  proto->set_network_us(w.network_us);
  proto->set_verify_us(w.verify_us);
  proto->set_copy_us(w.copy_us);
  proto->set_wait_us(w.wait_us);
  proto->set_compute_us(w.compute_us);
  proto->set_total_us(w.total_us);
  proto->set_router_us(w.router_us);
  proto->set_network_bytes(w.network_bytes);
  proto->set_copied_bytes(w.copied_bytes);
}

absl::StatusOr<Waterfall> from_proto(const v1::Waterfall& proto) {
  if (proto.temperature() > static_cast<uint32_t>(Temperature::kResident)) {
    return absl::InvalidArgumentError(str_cat("temperature: ", proto.temperature(), ", this version knows 0 to 3"));
  }
  return Waterfall{.temperature = static_cast<Temperature>(proto.temperature()), .queue_us = proto.queue_us(),
                   .resolve_us = proto.resolve_us(), .network_us = proto.network_us(), .verify_us = proto.verify_us(),
                   .copy_us = proto.copy_us(), .wait_us = proto.wait_us(), .compute_us = proto.compute_us(),
                   .total_us = proto.total_us(), .router_us = proto.router_us(), .network_bytes = proto.network_bytes(),
                   .copied_bytes = proto.copied_bytes()};
}

void to_proto(const Ticket& ticket, v1::Ticket* proto) {
  to_proto(ticket.id, proto->mutable_id());
  proto->set_executor_address(ticket.executor_address);
  proto->set_executor_incarnation(ticket.executor_incarnation);
  proto->set_revision(digest_bytes(ticket.revision));
  proto->set_expires_us(ticket.expires_in.us());
}

absl::StatusOr<Ticket> from_proto(const v1::Ticket& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("executor_address", proto.executor_address(), kNameBytesMax));
  Ticket ticket{.id = from_proto(proto.id()), .executor_address = proto.executor_address(),
                .executor_incarnation = proto.executor_incarnation()};
  CENOTE_ASSIGN_OR_RETURN(ticket.revision, digest_of("ticket revision", proto.revision()));
  CENOTE_ASSIGN_OR_RETURN(ticket.expires_in, duration_of("ticket expiry", proto.expires_us()));
  return ticket;
}

void to_proto(const ReserveSlot& reserve, v1::Reserve* proto) {
  to_proto(reserve.id, proto->mutable_id());
  proto->set_revision(digest_bytes(reserve.revision));
  proto->set_expires_us(reserve.expires_in.us());
}

absl::StatusOr<ReserveSlot> from_proto(const v1::Reserve& proto) {
  ReserveSlot reserve{.id = from_proto(proto.id())};
  CENOTE_ASSIGN_OR_RETURN(reserve.revision, digest_of("reserved revision", proto.revision()));
  CENOTE_ASSIGN_OR_RETURN(reserve.expires_in, duration_of("reservation expiry", proto.expires_us()));
  return reserve;
}

void to_proto(const Welcome& welcome, v1::Welcome* proto) {
  proto->set_protocol(kProtocolVersion);
  proto->set_incarnation(welcome.incarnation);
  proto->set_name(welcome.name);
  proto->set_credits(welcome.credits);
  proto->set_draining(welcome.draining);
  proto->set_beat_us(welcome.beat.us());
}

absl::StatusOr<Welcome> from_proto(const v1::Welcome& proto) {
  if (proto.protocol() != kProtocolVersion) {
    return absl::FailedPreconditionError(str_cat("peer '", utf8_text(proto.name(), kNameBytesMax), "' speaks protocol ",
                                                 proto.protocol(), ", this is ", kProtocolVersion,
                                                 ": run the same version of Cenote everywhere"));
  }
  CENOTE_RETURN_IF_ERROR(check_text("welcome name", proto.name(), kNameBytesMax));
  CENOTE_ASSIGN_OR_RETURN(const Duration beat, duration_of("welcome beat", proto.beat_us()));
  return Welcome{.incarnation = proto.incarnation(), .name = proto.name(), .credits = proto.credits(),
                 .draining = proto.draining(), .beat = beat};
}

v1::InferenceUp to_proto(const InferRequest& request) {
  v1::InferenceUp up;
  to_proto(request, up.mutable_infer());
  return up;
}

v1::InferenceUp to_proto(const CancelInfer& cancel) {
  v1::InferenceUp up;
  to_proto(cancel.id, up.mutable_cancel()->mutable_id());
  return up;
}

v1::InferenceUp to_proto(const ReserveSlot& reserve) {
  v1::InferenceUp up;
  to_proto(reserve, up.mutable_reserve());
  return up;
}

absl::StatusOr<InferUp> from_proto(v1::InferenceUp&& proto) {
  switch (proto.kind_case()) {
    case v1::InferenceUp::kInfer: {
      CENOTE_ASSIGN_OR_RETURN(InferRequest request, from_proto(std::move(*proto.mutable_infer())));
      return InferUp(std::move(request));
    }
    case v1::InferenceUp::kCancel: return InferUp(CancelInfer{from_proto(proto.cancel().id())});
    case v1::InferenceUp::kReserve: {
      CENOTE_ASSIGN_OR_RETURN(ReserveSlot reserve, from_proto(proto.reserve()));
      return InferUp(reserve);
    }
    case v1::InferenceUp::KIND_NOT_SET: break;
  }
  return absl::InvalidArgumentError("session message of a kind that this version does not know");
}

v1::InferenceDown to_proto(InferDown&& message) {
  struct Write {
    v1::InferenceDown down;
    void operator()(const Welcome& welcome) { to_proto(welcome, down.mutable_welcome()); }
    void operator()(InferReply& reply) { to_proto(std::move(reply), down.mutable_reply()); }
    void operator()(const Ticket& ticket) { to_proto(ticket, down.mutable_ticket()); }
    void operator()(const SlotReleased& released) {
      to_proto(released.id, down.mutable_released()->mutable_id());
      to_proto(released.status, down.mutable_released()->mutable_status());
    }
    void operator()(const CreditsChanged& credits) {
      down.mutable_credits()->set_credits(credits.credits);
      down.mutable_credits()->set_draining(credits.draining);
    }
    void operator()(const RequestStuck& stuck) { to_proto(stuck.id, down.mutable_stuck()->mutable_id()); }
    void operator()(const PeerBeat& beat) { down.mutable_beat()->set_next_us(beat.next.us()); }
  } write;
  std::visit(write, message);
  return std::move(write.down);
}

absl::StatusOr<InferDown> from_proto(v1::InferenceDown&& proto) {
  switch (proto.kind_case()) {
    case v1::InferenceDown::kWelcome: {
      CENOTE_ASSIGN_OR_RETURN(Welcome welcome, from_proto(proto.welcome()));
      return InferDown(std::move(welcome));
    }
    case v1::InferenceDown::kReply: {
      CENOTE_ASSIGN_OR_RETURN(InferReply reply, from_proto(std::move(*proto.mutable_reply())));
      return InferDown(std::move(reply));
    }
    case v1::InferenceDown::kTicket: {
      CENOTE_ASSIGN_OR_RETURN(Ticket ticket, from_proto(proto.ticket()));
      return InferDown(std::move(ticket));
    }
    case v1::InferenceDown::kReleased:
      return InferDown(SlotReleased{from_proto(proto.released().id()), from_proto(proto.released().status())});
    case v1::InferenceDown::kCredits:
      return InferDown(CreditsChanged{proto.credits().credits(), proto.credits().draining()});
    case v1::InferenceDown::kStuck: return InferDown(RequestStuck{from_proto(proto.stuck().id())});
    case v1::InferenceDown::kBeat: {
      CENOTE_ASSIGN_OR_RETURN(const Duration next, duration_of("beat", proto.beat().next_us()));
      return InferDown(PeerBeat{next});
    }
    case v1::InferenceDown::KIND_NOT_SET: break;
  }
  return absl::InvalidArgumentError("session message of a kind that this version does not know");
}

absl::Status take_each(v1::InferenceUp&& proto, absl::FunctionRef<void(InferUp)> take) { return take_all<InferUp>(std::move(proto), take); }
absl::Status take_each(v1::InferenceDown&& proto, absl::FunctionRef<void(InferDown)> take) { return take_all<InferDown>(std::move(proto), take); }

}  // namespace cenote::wire
