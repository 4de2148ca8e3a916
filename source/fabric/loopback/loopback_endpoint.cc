#include <algorithm>

#include "base/status.h"
#include "fabric/loopback/loopback_transport.h"

namespace cenote::fabric {

LoopbackEndpoint::LoopbackEndpoint(LoopbackTransport& transport, Address peer)
    : transport_(transport), peer_(std::move(peer)), id_(transport.next_endpoint_++) {
  transport_.endpoints_.emplace(id_, this);
}

LoopbackEndpoint::~LoopbackEndpoint() {
  for (const auto& [key, request] : outstanding_) {
    const std::lock_guard lock(request->mutex);
    if (request->state == LoopbackRequest::State::kQueued) request->state = LoopbackRequest::State::kCancelled;
  }
  std::erase_if(transport_.ready_, [this](const auto& ready) { return ready.endpoint == id_; });
  transport_.in_flight_ -= in_flight_;
  transport_.endpoints_.erase(id_);
}

absl::Status LoopbackEndpoint::read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) {
  return post(false, source, target, tag, deadline);
}

absl::Status LoopbackEndpoint::write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) {
  return post(true, target, source, tag, deadline);
}

absl::Status LoopbackEndpoint::post(bool write, const RemoteSpan& remote, const LocalSpan& local, Tag tag, Instant deadline) {
  ExclusiveUse::Scope scope(transport_.use_);
  CENOTE_CHECK(dynamic_cast<const LoopbackRegion*>(local.region) != nullptr);
  CENOTE_CHECK(remote.size_bytes == local.size_bytes);
  CENOTE_CHECK(local.size_bytes >= 1 && local.size_bytes <= kTransferBytesMax);
  const std::span<std::byte> bytes = local.region->bytes();
  CENOTE_CHECK(local.offset_bytes <= bytes.size() && local.size_bytes <= bytes.size() - local.offset_bytes);
  if (broken_) return absl::UnavailableError(absl::StrCat("fabric: the endpoint to ", describe(peer_), " is broken; connect again"));
  if (in_flight_ >= kOperationsPerEndpointMax || transport_.in_flight_ >= kOperationsPerTransportMax) {
    return absl::ResourceExhaustedError(absl::StrCat("fabric: ", in_flight_, " operations to ", describe(peer_), " in flight, ",
                                                     transport_.in_flight_, " in all; the limits are ",
                                                     kOperationsPerEndpointMax, " and ", kOperationsPerTransportMax));
  }
  if (target_ == nullptr) target_ = find_node(peer_.bytes);
  auto request = std::make_shared<LoopbackRequest>();
  request->initiator = transport_.node_;
  request->write = write;
  request->remote = remote;
  request->local = bytes.data() + local.offset_bytes;
  request->tag = tag;
  request->deadline = deadline;
  request->endpoint = id_;
  request->sequence = next_sequence_++;
  ++in_flight_;
  ++transport_.in_flight_;
  outstanding_.emplace(request->sequence, request);
  if (target_ == nullptr || !target_->submit(request)) break_now(monotonic_now());
  return absl::OkStatus();
}

void LoopbackEndpoint::complete(const LoopbackRequest& request, absl::StatusCode code) {
  FabricStats& stats = transport_.stats_;
  if (code == absl::StatusCode::kOk) {
    ++(request.write ? stats.writes : stats.reads);
    (request.write ? stats.written_bytes : stats.read_bytes) += request.remote.size_bytes;
  } else {
    ++stats.failed;
    if (code == absl::StatusCode::kDeadlineExceeded) ++stats.deadlines;
  }
  transport_.ready_.push_back({id_, {.tag = request.tag, .code = code}});
}

void LoopbackEndpoint::finished(const LoopbackRequestPtr& request, Instant now) {
  if (!outstanding_.contains(request->sequence)) return;  // Broken since: it was completed then.
  LoopbackRequest::State state;
  {
    const std::lock_guard lock(request->mutex);
    state = request->state;
  }
  if (state != LoopbackRequest::State::kDone) return break_now(now);
  outstanding_.erase(request->sequence);
  complete(*request, absl::StatusCode::kOk);
}

Instant LoopbackEndpoint::earliest_deadline() const {
  Instant earliest = Instant::infinite_future();
  for (const auto& [key, request] : outstanding_) earliest = std::min(earliest, request->deadline);
  return earliest;
}

void LoopbackEndpoint::check_deadlines(Instant now) {
  if (earliest_deadline() <= now) break_now(now);
}

void LoopbackEndpoint::handed_out() {
  --in_flight_;
  --transport_.in_flight_;
}

void LoopbackEndpoint::break_now(Instant now) {
  CENOTE_CHECK(!broken_);
  broken_ = true;
  ++transport_.stats_.endpoints_broken;
  for (const auto& [key, request] : outstanding_) {
    {
      // Waits for a copy in progress: afterwards nobody touches the local bytes.
      const std::lock_guard lock(request->mutex);
      if (request->state == LoopbackRequest::State::kQueued) request->state = LoopbackRequest::State::kCancelled;
    }
    complete(*request, request->deadline <= now ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable);
  }
  outstanding_.clear();
}

}  // namespace cenote::fabric
