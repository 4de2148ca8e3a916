#include "fabric/loopback/loopback_transport.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "base/ids.h"
#include "base/status.h"
#include "fabric/loopback/loopback.h"

namespace cenote::fabric {

absl::StatusOr<std::unique_ptr<Transport>> open_loopback(const TransportOptions& options) {
  auto node = std::make_shared<LoopbackNode>();
  CENOTE_ASSIGN_OR_RETURN(std::string address, publish_node(options.port, node));
  return std::make_unique<LoopbackTransport>(std::move(node), std::move(address));
}

LoopbackTransport::LoopbackTransport(std::shared_ptr<LoopbackNode> node, std::string address)
    : node_(std::move(node)), address_(std::move(address)) {}

LoopbackTransport::~LoopbackTransport() {
  CENOTE_CHECK(endpoints_.empty());
  CENOTE_CHECK(regions_.empty());
  withdraw_node(address_);
  node_->close();
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> LoopbackTransport::register_memory(std::span<std::byte> bytes, Access access) {
  ExclusiveUse::Scope scope(use_);
  if (bytes.empty()) return absl::InvalidArgumentError("fabric: a region needs at least 1 byte");
  uint64_t key = random_u64();
  while (regions_.contains(key)) key = random_u64();
  return std::make_unique<LoopbackRegion>(*this, bytes, access, key);
}

absl::StatusOr<std::unique_ptr<Endpoint>> LoopbackTransport::connect(const Address& peer) {
  ExclusiveUse::Scope scope(use_);
  if (peer.provider != "loopback" || peer.bytes.size() > kAddressBytesMax || !absl::StartsWith(peer.bytes, "loopback:")) {
    return absl::InvalidArgumentError(absl::StrCat("fabric: ", describe(peer), " is not a loopback address"));
  }
  return std::make_unique<LoopbackEndpoint>(*this, peer);
}

bool LoopbackTransport::allowed(const LoopbackRequest& request, std::byte*& remote) const {
  const auto found = regions_.find(request.remote.region.key);
  if (found == regions_.end()) return false;
  const std::span<std::byte> bytes = found->second->bytes();
  if (!found->second->allows(request.write ? Access::kRemoteWrite : Access::kRemoteRead)) return false;
  if (request.remote.offset_bytes > bytes.size() || request.remote.size_bytes > bytes.size() - request.remote.offset_bytes) {
    return false;
  }
  remote = bytes.data() + request.remote.offset_bytes;
  return true;
}

void LoopbackTransport::serve(LoopbackRequest& request) {
  const std::lock_guard lock(request.mutex);
  if (request.state != LoopbackRequest::State::kQueued) return;
  std::byte* remote = nullptr;
  if (!allowed(request, remote)) {
    ++stats_.refused;
    request.state = LoopbackRequest::State::kRefused;
    return;
  }
  std::byte* const target = request.write ? remote : request.local;
  const std::byte* const source = request.write ? request.local : remote;
  std::memmove(target, source, request.remote.size_bytes);
  request.state = LoopbackRequest::State::kDone;
}

void LoopbackTransport::progress(Instant now) {
  for (LoopbackRequestPtr& request : node_->take_submitted()) {
    serve(*request);
    LoopbackNode& initiator = *request->initiator;
    initiator.finish(std::move(request));
  }
  for (const LoopbackRequestPtr& request : node_->take_finished()) {
    const auto found = endpoints_.find(request->endpoint);
    if (found != endpoints_.end()) found->second->finished(request, now);
  }
  for (const auto& [id, endpoint] : endpoints_) endpoint->check_deadlines(now);
}

size_t LoopbackTransport::poll(std::span<Completion> completions) {
  ExclusiveUse::Scope scope(use_);
  progress(monotonic_now());
  size_t count = 0;
  while (count < completions.size() && !ready_.empty()) {
    completions[count++] = ready_.front().completion;
    endpoints_.at(ready_.front().endpoint)->handed_out();
    ready_.pop_front();
  }
  return count;
}

Instant LoopbackTransport::next_due(Instant until) const {
  for (const auto& [id, endpoint] : endpoints_) until = std::min(until, endpoint->earliest_deadline());
  return until;
}

void LoopbackTransport::wait(Duration at_most) {
  ExclusiveUse::Scope scope(use_);
  Instant now = monotonic_now();
  const Instant until = now + at_most;
  for (;;) {
    progress(now);
    if (!ready_.empty() || now >= until) return;
    if (node_->wait(next_due(until))) return;
    now = monotonic_now();
  }
}

LoopbackRegion::LoopbackRegion(LoopbackTransport& transport, std::span<std::byte> bytes, Access access, uint64_t key)
    : transport_(transport), bytes_(bytes), access_(access), key_(key) {
  transport_.regions_.emplace(key_, this);
}

LoopbackRegion::~LoopbackRegion() {
  ExclusiveUse::Scope scope(transport_.use_);
  transport_.regions_.erase(key_);
}

}  // namespace cenote::fabric
