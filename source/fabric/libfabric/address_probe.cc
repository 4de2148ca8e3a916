#include "fabric/libfabric/address_probe.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace cenote::fabric {
namespace {

constexpr int kResolveTimeoutMs = 2000;  // The provider's own.

sockaddr_storage read_address(const std::string& bytes, bool with_port) {
  sockaddr_storage address{};
  CENOTE_CHECK(bytes.size() <= sizeof address);
  std::memcpy(&address, bytes.data(), bytes.size());
  // The port lies at the same place in both families. Ours is taken, by the endpoint that serves.
  if (!with_port) reinterpret_cast<sockaddr_in*>(&address)->sin_port = 0;
  return address;
}

}  // namespace

AddressProbe::~AddressProbe() { settle(answer_); }

void AddressProbe::start(const std::string& from, const std::string& to) {
  CENOTE_CHECK(!started_);
  started_ = true;
  sockaddr_storage source = read_address(from, false);
  sockaddr_storage target = read_address(to, true);
  channel_ = rdma_create_event_channel();
  if (channel_ == nullptr || fcntl(channel_->fd, F_SETFL, O_NONBLOCK) != 0) return settle(Answer::kReachable);
  if (rdma_create_id(channel_, &id_, nullptr, RDMA_PS_TCP) != 0) {
    id_ = nullptr;
    return settle(Answer::kReachable);
  }
  if (rdma_resolve_addr(id_, reinterpret_cast<sockaddr*>(&source), reinterpret_cast<sockaddr*>(&target), kResolveTimeoutMs) != 0) {
    const bool nowhere = errno == ENETUNREACH || errno == EHOSTUNREACH || errno == ENODEV;
    settle(nowhere ? Answer::kUnreachable : Answer::kReachable);
  }
}

void AddressProbe::settle(Answer answer) {
  answer_ = answer;
  if (id_ != nullptr) rdma_destroy_id(id_);
  if (channel_ != nullptr) rdma_destroy_event_channel(channel_);
  id_ = nullptr;
  channel_ = nullptr;
}

AddressProbe::Answer AddressProbe::answer() {
  if (id_ == nullptr) return answer_;
  rdma_cm_event* event = nullptr;
  if (rdma_get_cm_event(channel_, &event) != 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK) settle(Answer::kReachable);
    return answer_;
  }
  const bool unreachable = event->event == RDMA_CM_EVENT_ADDR_ERROR;
  rdma_ack_cm_event(event);
  settle(unreachable ? Answer::kUnreachable : Answer::kReachable);
  return answer_;
}

}  // namespace cenote::fabric
