#include "fabric/libfabric/endpoint.h"

#include <algorithm>

#include <rdma/fi_rma.h>

#include "base/status.h"
#include "base/units.h"

namespace cenote::fabric {
namespace {

// While a peer does not answer, each attempt may cost a connection attempt, so they get rarer.
constexpr Duration kRetryPauseMin = Duration::from_us(100);
constexpr Duration kRetryPauseMax = Duration::from_ms(20);
// A healthy peer connects in 1 to 20 ms; only after that is it worth asking whether there is one.
constexpr Duration kProbeAfter = Duration::from_ms(25);
constexpr int kReapReadsMax = 16;

}  // namespace

LibfabricEndpoint::LibfabricEndpoint(LibfabricTransport& transport, Port port, fi_addr_t peer, const Address& address)
    : transport_(transport), port_(std::move(port)), peer_(peer), address_(address), peer_name_(describe(address)), retry_pause_(kRetryPauseMin) {
  transport_.endpoints_.push_back(this);
  transport_.watch(port_);
}

LibfabricEndpoint::~LibfabricEndpoint() {
  close_port();
  for (OperationList* list : {&pending_, &posted_}) {
    while (Operation* operation = list->first()) {
      list->remove(operation);
      transport_.operations_.give(operation);
    }
  }
  transport_.forget(this);
}

void LibfabricEndpoint::close_port() {
  if (port_.endpoint == nullptr) return;
  transport_.unwatch(port_);
  port_.close();
}

absl::Status LibfabricEndpoint::read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) {
  return post(OperationKind::kRead, source, target, tag, deadline);
}

absl::Status LibfabricEndpoint::write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) {
  return post(OperationKind::kWrite, target, source, tag, deadline);
}

absl::Status LibfabricEndpoint::post(OperationKind kind, const RemoteSpan& remote, const LocalSpan& local, Tag tag,
                                     Instant deadline) {
  ExclusiveUse::Scope scope(transport_.use_);
  const auto* region = dynamic_cast<const LibfabricRegion*>(local.region);
  CENOTE_CHECK(region != nullptr);
  CENOTE_CHECK(remote.size_bytes == local.size_bytes);
  CENOTE_CHECK(local.size_bytes >= 1 && local.size_bytes <= kTransferBytesMax);
  const uint64_t region_bytes = region->bytes().size();
  CENOTE_CHECK(local.offset_bytes <= region_bytes && local.size_bytes <= region_bytes - local.offset_bytes);
  if (broken_) return absl::UnavailableError(absl::StrCat("fabric: the endpoint to ", peer_name_, " is broken; connect again"));
  if (local.size_bytes > transport_.transfer_bytes_max()) {
    return absl::InvalidArgumentError(absl::StrCat("fabric: a transfer of ", format_bytes(local.size_bytes), "; ", transport_.provider(),
                                                   " takes at most ", format_bytes(transport_.transfer_bytes_max())));
  }
  if (remote.offset_bytes > UINT64_MAX - remote.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("fabric: remote offset ", remote.offset_bytes, " overflows"));
  }
  Operation* operation = in_flight_ < kOperationsPerEndpointMax ? transport_.operations_.take() : nullptr;
  if (operation == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("fabric: ", in_flight_, " operations to ", peer_name_, " in flight, ",
                                                     transport_.operations_.in_use(), " in all; the limits are ",
                                                     kOperationsPerEndpointMax, " and ", kOperationsPerTransportMax));
  }
  operation->tag = tag;
  operation->deadline = deadline;
  operation->local = region->bytes().data() + local.offset_bytes;
  operation->descriptor = region->descriptor();
  operation->size_bytes = local.size_bytes;
  operation->remote_address = remote.region.base + remote.offset_bytes;
  operation->remote_key = remote.region.key;
  operation->kind = kind;
  // First come, first posted: what waits must not be overtaken for ever.
  const ssize_t error = pending_.empty() ? submit(operation) : -FI_EAGAIN;
  if (error != 0 && error != -FI_EAGAIN) {
    transport_.operations_.give(operation);
    break_now(Instant{});
    return absl::UnavailableError(absl::StrCat("fabric: ", peer_name_, ": ", fi_strerror(static_cast<int>(-error))));
  }
  ++in_flight_;
  earliest_deadline_ = std::min(earliest_deadline_, deadline);
  (error == 0 ? posted_ : pending_).push_back(operation);
  if (error != 0 && posted_.empty()) note_refused(monotonic_now());
  return absl::OkStatus();
}

AddressProbe::Answer LibfabricEndpoint::address_answer() {
  if (!address_.provider.starts_with("verbs")) return AddressProbe::Answer::kReachable;
  if (!address_probe_.started()) address_probe_.start(transport_.address_.bytes, address_.bytes);
  return address_probe_.answer();
}

ssize_t LibfabricEndpoint::submit(Operation* operation) {
  switch (address_answer()) {
    case AddressProbe::Answer::kNotYet: return -FI_EAGAIN;
    case AddressProbe::Answer::kUnreachable: return -FI_EHOSTUNREACH;
    case AddressProbe::Answer::kReachable: break;
  }
  port_.armed = false;
  if (operation->kind == OperationKind::kRead) {
    return fi_read(port_.endpoint.get(), operation->local, operation->size_bytes, operation->descriptor, peer_,
                   operation->remote_address, operation->remote_key, &operation->context);
  }
  // A write completes when its bytes lie in the target's memory: over tcp they would otherwise still be in a socket's buffer, and
  // whoever then tells the target to look would be early.
  const iovec local{.iov_base = operation->local, .iov_len = operation->size_bytes};
  const fi_rma_iov remote{.addr = operation->remote_address, .len = operation->size_bytes, .key = operation->remote_key};
  const fi_msg_rma message{.msg_iov = &local, .desc = &operation->descriptor, .iov_count = 1, .addr = peer_, .rma_iov = &remote,
                           .rma_iov_count = 1, .context = &operation->context, .data = 0};
  return fi_writemsg(port_.endpoint.get(), &message, FI_DELIVERY_COMPLETE | FI_COMPLETION);
}

void LibfabricEndpoint::note_refused(Instant now) {
  if (blocked_since_ == Instant::infinite_future()) {
    blocked_since_ = now;
    retry_pause_ = kRetryPauseMin;
  }
  retry_at_ = now + retry_pause_;
  retry_pause_ = std::min(retry_pause_ + Duration{retry_pause_.ns / 2}, kRetryPauseMax);
}

bool LibfabricEndpoint::nobody_listens(Instant now) {
  if (!address_.provider.starts_with("tcp") || blocked_since_ == Instant::infinite_future()) return false;
  if (now < blocked_since_ + kProbeAfter) return false;
  if (!probe_.started()) probe_.start(address_.bytes);
  return probe_.answer() == TcpProbe::Answer::kRefused;
}

void LibfabricEndpoint::submit_pending(Instant now) {
  if (posted_.empty() && now < retry_at_) return;
  if (posted_.empty() && nobody_listens(now)) {
    LOG_DEBUG("fabric: nobody listens at {}", peer_name_);
    return break_now(now);
  }
  while (Operation* operation = pending_.first()) {
    const ssize_t error = submit(operation);
    if (error == -FI_EAGAIN) {
      // With something posted, its completion is the sign to go on; with nothing, only time is.
      if (posted_.empty()) note_refused(now);
      return;
    }
    if (error != 0) {
      LOG_DEBUG("fabric: {}: {}", peer_name_, fi_strerror(static_cast<int>(-error)));
      return break_now(now);
    }
    blocked_since_ = Instant::infinite_future();
    pending_.remove(operation);
    posted_.push_back(operation);
  }
}

void LibfabricEndpoint::finish(Operation* operation, absl::StatusCode code) {
  FabricStats& stats = transport_.stats_;
  if (code == absl::StatusCode::kOk) {
    const bool read = operation->kind == OperationKind::kRead;
    ++(read ? stats.reads : stats.writes);
    (read ? stats.read_bytes : stats.written_bytes) += operation->size_bytes;
  } else {
    ++stats.failed;
    if (code == absl::StatusCode::kDeadlineExceeded) ++stats.deadlines;
  }
  transport_.deliver(this, {.tag = operation->tag, .code = code});
  transport_.operations_.give(operation);
}

void LibfabricEndpoint::reap(Instant now) {
  fi_cq_entry entries[64];
  for (int i = 0; i < kReapReadsMax; ++i) {
    const ssize_t count = fi_cq_read(port_.queue.get(), entries, std::size(entries));
    if (count == -FI_EAGAIN) return;
    if (count < 0) {
      fi_cq_err_entry error{};
      if (count == -FI_EAVAIL) fi_cq_readerr(port_.queue.get(), &error, 0);
      LOG_DEBUG("fabric: {}: {}", peer_name_, fi_strerror(error.err != 0 ? error.err : static_cast<int>(-count)));
      return break_now(now);
    }
    for (ssize_t j = 0; j < count; ++j) {
      auto* operation = static_cast<Operation*>(entries[j].op_context);
      if (operation == nullptr) return break_now(now);  // Whose it was cannot be known: all are failed.
      posted_.remove(operation);
      finish(operation, absl::StatusCode::kOk);
    }
    if (count < static_cast<ssize_t>(std::size(entries))) return;
  }
}

void LibfabricEndpoint::check_deadlines(Instant now) {
  if (now >= earliest_deadline_) {
    earliest_deadline_ = Instant::infinite_future();
    for (const OperationList* list : {&posted_, &pending_}) {
      for (const Operation* o = list->first(); o != nullptr; o = o->next) {
        earliest_deadline_ = std::min(earliest_deadline_, o->deadline);
      }
    }
    if (now >= earliest_deadline_) return break_now(now);
  }
  if (!pending_.empty() && posted_.empty() && blocked_since_ != Instant::infinite_future() &&
      now >= blocked_since_ + transport_.connect_timeout_) {
    LOG_DEBUG("fabric: {} has taken nothing for {} ms", peer_name_, (now - blocked_since_).ms());
    break_now(now);
  }
}

void LibfabricEndpoint::progress(Instant now) {
  if (broken_) return;
  if (!port_.armed) reap(now);
  if (!broken_ && !pending_.empty()) submit_pending(now);
  if (!broken_ && in_flight_ != 0) check_deadlines(now);
}

Instant LibfabricEndpoint::next_due() const {
  if (broken_ || (posted_.empty() && pending_.empty())) return Instant::infinite_future();
  Instant due = earliest_deadline_;
  if (!pending_.empty() && posted_.empty() && blocked_since_ != Instant::infinite_future()) {
    due = std::min({due, retry_at_, blocked_since_ + transport_.connect_timeout_});
  }
  return due;
}

void LibfabricEndpoint::break_now(Instant now) {
  CENOTE_CHECK(!broken_);
  broken_ = true;
  ++transport_.stats_.endpoints_broken;
  close_port();  // From here the provider cannot touch the buffers.
  for (OperationList* list : {&posted_, &pending_}) {
    while (Operation* operation = list->first()) {
      list->remove(operation);
      finish(operation, operation->deadline <= now ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable);
    }
  }
}

}  // namespace cenote::fabric
