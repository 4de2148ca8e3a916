// Goal: no bytes from another process make a conversion crash, allocate beyond what arrived, or return what its bounds forbid; and what
// is accepted converts back to a message that is accepted again, and equal. The first byte picks the message type.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/status.h"
#include "base/units.h"
#include "wire/bounds.h"
#include "wire/convert_control.h"
#include "wire/convert_infer.h"
#include "wire/convert_link.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"
#include "wire/grpc_log.h"

namespace cenote::wire {
namespace {

void check(const InferRequest& request) {
  uint64_t bytes = 0;
  for (const Tensor& input : request.inputs) {
    CENOTE_CHECK(input.shape.size() <= kRankMax && input.name.size() <= kNameBytesMax);
    if (!input.bytes.empty() || !request.by_ticket) CENOTE_CHECK(check_tensor(input).ok());
    bytes += static_cast<uint64_t>(*element_count(input.shape)) * dtype_bytes(input.dtype);
  }
  CENOTE_CHECK(bytes == request.payload_bytes && bytes <= kPayloadBytesMax);
}
void check(const InferUp& up) {
  if (const auto* request = std::get_if<InferRequest>(&up)) check(*request);
}
void check(const InferDown& down) {
  if (const auto* reply = std::get_if<InferReply>(&down)) {
    for (const Tensor& output : reply->outputs) CENOTE_CHECK(check_tensor(output).ok());
  }
}
void check(const RevisionRecord& record) {
  for (const BlockRef& block : record.blocks) CENOTE_CHECK(block.size_bytes >= 1 && block.size_bytes <= kBlockBytesMax);
}
template <typename Message>
void check(const Message&) {}

template <typename Proto>
Proto write(InferUp&& up) {
  return std::visit([](const auto& kind) { return to_proto(kind); }, up);
}
template <typename Proto>
Proto write(InferDown&& down) {
  return to_proto(std::move(down));
}
template <typename Proto, typename Message>
Proto write(Message&& message) {
  Proto proto;
  to_proto(std::forward<Message>(message), &proto);
  return proto;
}

template <typename Proto>
void run(const std::string& bytes) {
  Proto proto;
  if (!proto.ParseFromString(bytes)) return;
  auto message = from_proto(std::move(proto));
  if (!message.ok()) {
    CENOTE_CHECK(!message.status().message().empty());
    return;
  }
  check(*message);
  Proto first = write<Proto>(*std::move(message));
  const std::string once = first.SerializeAsString();
  auto again = from_proto(std::move(first));
  CENOTE_CHECK(again.ok());
  CENOTE_CHECK(write<Proto>(*std::move(again)).SerializeAsString() == once);
}

// Words that services look at themselves.
void words(const std::string& bytes) {
  const auto operation = operation_of(bytes);
  CENOTE_CHECK(operation.ok() == (bytes.empty() || bytes.size() == kOperationIdBytes));
  const auto digest = digest_of("digest", bytes);
  const bool zeros = bytes.find_first_not_of('\0') == std::string::npos;  // What no digest is.
  CENOTE_CHECK(digest.ok() == (bytes.size() == 32 && !zeros));
  int64_t us = 0;
  std::memcpy(&us, bytes.data(), std::min(bytes.size(), sizeof us));
  const auto duration = duration_of("wait", us);
  CENOTE_CHECK(duration.ok() == (us >= 0 && us <= kDurationUsMax));
}

}  // namespace
}  // namespace cenote::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote::wire;
  namespace v1 = cenote::v1;
  if (size == 0) return 0;
  quiet_grpc_log();
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 23) {
    case 0: run<v1::InferenceUp>(bytes); break;
    case 1: run<v1::InferenceDown>(bytes); break;
    case 2: run<v1::MemberReport>(bytes); break;
    case 3: run<v1::Directive>(bytes); break;
    case 4: run<v1::ExecutorUp>(bytes); break;
    case 5: run<v1::ExecutorDown>(bytes); break;
    case 6: run<v1::RevisionRecord>(bytes); break;
    case 7: run<v1::GrantRequest>(bytes); break;
    case 8: run<v1::GrantReply>(bytes); break;
    case 9: run<v1::OpenSlabReply>(bytes); break;
    case 10: run<v1::SealSlabRequest>(bytes); break;
    case 11: run<v1::BeginDeployRequest>(bytes); break;
    case 12: run<v1::BeginDeployReply>(bytes); break;
    case 13: run<v1::ModelInfo>(bytes); break;
    case 14: run<v1::ClusterReply>(bytes); break;
    case 15: run<v1::TagReply>(bytes); break;
    case 16: run<v1::RemoveReply>(bytes); break;
    case 17: run<v1::OpenSlabRequest>(bytes); break;
    case 18: run<v1::SealSlabReply>(bytes); break;
    case 19: run<v1::CommitDeployReply>(bytes); break;
    case 20: run<v1::ReadEventsReply>(bytes); break;
    case 21: run<v1::FindUnclaimedReply>(bytes); break;
    case 22: words(bytes); break;
  }
  return 0;
}
