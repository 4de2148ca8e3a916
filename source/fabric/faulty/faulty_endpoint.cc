#include "fabric/faulty/faulty_endpoint.h"

#include "base/status.h"

namespace cenote::fabric {

FaultyEndpoint::FaultyEndpoint(FaultyTransport& transport, std::unique_ptr<Endpoint> inner, Address peer)
    : transport_(transport), inner_(std::move(inner)), peer_(std::move(peer)) {
  transport_.endpoints_.insert(this);
}

FaultyEndpoint::~FaultyEndpoint() {
  inner_.reset();  // First: only then is nothing written any more.
  std::erase_if(transport_.operations_, [this](const auto& entry) { return entry.second.endpoint == this; });
  std::erase_if(transport_.ready_, [this](const auto& ready) { return ready.endpoint == this; });
  transport_.endpoints_.erase(this);
}

absl::Status FaultyEndpoint::read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) {
  return post(false, source, target, tag, deadline);
}

absl::Status FaultyEndpoint::write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) {
  return post(true, target, source, tag, deadline);
}

absl::Status FaultyEndpoint::post(bool write, const RemoteSpan& remote, const LocalSpan& local, Tag tag, Instant deadline) {
  ExclusiveUse::Scope scope(transport_.use_);
  CENOTE_CHECK(local.region != nullptr && remote.size_bytes == local.size_bytes);
  CENOTE_CHECK(local.size_bytes >= 1 && local.size_bytes <= kTransferBytesMax);
  const std::span<std::byte> bytes = local.region->bytes();
  CENOTE_CHECK(local.offset_bytes <= bytes.size() && local.size_bytes <= bytes.size() - local.offset_bytes);
  if (broken_) return absl::UnavailableError(absl::StrCat("fabric: the endpoint to ", describe(peer_), " is broken; connect again"));
  if (in_flight_ >= kOperationsPerEndpointMax || transport_.operations_.size() >= kOperationsPerTransportMax) {
    return absl::ResourceExhaustedError(absl::StrCat("fabric: ", in_flight_, " operations to ", describe(peer_), " in flight"));
  }
  const uint64_t number = transport_.next_number_;
  FaultyTransport::Operation operation{.endpoint = this, .tag = tag, .deadline = deadline, .write = write};
  operation.local = bytes.subspan(local.offset_bytes, local.size_bytes);
  operation.fault = transport_.draw(peer_);
  if (transport_.peer_silent(peer_)) operation.fault = {FaultKind::kSilence, {}};
  if (transport_.peer_dead(peer_)) operation.fault = {FaultKind::kPeerDeath, {}};
  CENOTE_RETURN_IF_ERROR(pass_on(operation, number, remote, local));
  const FaultKind kind = operation.fault.kind;
  transport_.operations_.emplace(number, std::move(operation));
  ++transport_.next_number_;
  ++in_flight_;
  {
    const std::lock_guard lock(transport_.mutex_);
    FaultCounts& counts = transport_.counts_;
    ++counts.operations;
    counts.delayed += kind == FaultKind::kDelay;
    counts.errors += kind == FaultKind::kError;
    counts.silenced += kind == FaultKind::kSilence;
    counts.corrupted += kind == FaultKind::kCorrupt;
    if (kind == FaultKind::kPeerDeath) counts.deaths += transport_.dead_.insert(FaultyTransport::name_of(peer_)).second;
  }
  if (kind == FaultKind::kError) break_now(Instant{});
  if (kind == FaultKind::kPeerDeath) transport_.bury_the_dead(Instant{});
  return absl::OkStatus();
}

absl::Status FaultyEndpoint::pass_on(FaultyTransport::Operation& operation, uint64_t number, const RemoteSpan& remote,
                                     LocalSpan local) {
  const FaultKind kind = operation.fault.kind;
  if (kind == FaultKind::kError || kind == FaultKind::kSilence || kind == FaultKind::kPeerDeath) return absl::OkStatus();
  if (kind == FaultKind::kCorrupt && operation.write) {
    operation.corrupt_bytes.assign(operation.local.begin(), operation.local.end());
    transport_.corrupt(operation.corrupt_bytes);
    CENOTE_ASSIGN_OR_RETURN(operation.corrupt_region,
                            transport_.inner_->register_memory(operation.corrupt_bytes, Access::kLocal));
    local = {.region = operation.corrupt_region.get(), .offset_bytes = 0, .size_bytes = local.size_bytes};
  }
  const absl::Status posted = operation.write ? inner_->write(remote, local, number, operation.deadline)
                                              : inner_->read(remote, local, number, operation.deadline);
  if (absl::IsUnavailable(posted)) break_now(Instant{});
  return posted;
}

void FaultyEndpoint::break_now(Instant now) {
  if (broken_) return;
  broken_ = true;
  ++transport_.stats_.endpoints_broken;
  inner_.reset();  // Its completions will not come; its bytes are safe.
  std::vector<std::pair<uint64_t, absl::StatusCode>> ended;
  for (const auto& [number, operation] : transport_.operations_) {
    if (operation.endpoint != this) continue;
    ended.emplace_back(number, operation.deadline <= now ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable);
  }
  for (const auto& [number, code] : ended) transport_.finish(number, code);
}

}  // namespace cenote::fabric
