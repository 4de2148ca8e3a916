#include "wire/inference_service.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/units.h"
#include "wire/caller.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/credentials.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

constexpr int kBeatSlot = 0;
using SessionStream = ServerStream<v1::InferenceUp, v1::InferenceDown>;

class GrpcInferenceService final : public InferenceService, private v1::Inference::CallbackService {
 public:
  GrpcInferenceService(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked, InferenceLimits limits)
      : handlers_(std::move(handlers)), revoked_(std::move(revoked)), limits_(std::move(limits)) {}

  grpc::Service* service() override { return this; }

  void send(uint64_t session, InferDown message) override {
    const std::shared_ptr<SessionStream> stream = find_to_send(session);
    if (stream == nullptr) return;
    // A caller who does not read has one periodic beat waiting, not one for each time that it was due.
    const auto* beat = std::get_if<PeerBeat>(&message);
    const bool periodic = beat != nullptr && !beat->own;
    const absl::Status status = periodic ? stream->send_latest(kBeatSlot, to_proto(std::move(message))) : stream->send(to_proto(std::move(message)));
    if (*backlog_ > limits_.backlog_bytes_max) end_worst();
    if (status.code() != absl::StatusCode::kResourceExhausted) return;
    LOG_WARNING("session {}: {}; it is ended", session, std::string(status.message()));
    stream->cancel();
  }

  void cork() override {
    const std::lock_guard lock(mutex_);
    corking_ = true;
  }
  void uncork() override {
    {
      const std::lock_guard lock(mutex_);
      corking_ = false;
      std::swap(corked_, uncorking_);
    }
    for (const auto& stream : uncorking_) stream->uncork();
    uncorking_.clear();
  }

  size_t sessions() const override {
    const std::lock_guard lock(mutex_);
    return streams_.size();
  }

  void close_all() override {
    Streams streams;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      streams = streams_;
    }
    for (const auto& [session, stream] : streams) stream->close(absl::UnavailableError("the daemon is ending"));
  }

 private:
  grpc::ServerBidiReactor<v1::InferenceUp, v1::InferenceDown>* Session(grpc::CallbackServerContext* context) override {
    // gRPC holds back all events of the stream until this returns, so nothing arrives before the session is noted and announced.
    const auto peer = std::make_shared<Peer>(Peer{.node = require_node(*context, "reserve slots of executors")});
    if (const absl::StatusOr<Caller> caller = caller_of(*context); caller.ok()) peer->serial = caller->serial;
    if (revoked_ != nullptr) peer->revoked_version = revoked_->version();
    std::unique_lock lock(mutex_);
    if (closed_) {
      lock.unlock();
      return SessionStream::refuse(context, absl::UnavailableError("the daemon is ending"));
    }
    if (streams_.size() >= limits_.sessions_max) {
      lock.unlock();
      return SessionStream::refuse(context, absl::ResourceExhaustedError(str_cat(limits_.sessions_max, " callers are connected here, ", limits_.setting,
                                                                                 "; use another router, or fewer connections")));
    }
    const uint64_t session = next_session_++;
    const auto stream = SessionStream::open(context, {.peer = context->peer(), .queue_max = kQueueMax,
                                                      .queue_bytes_max = limits_.session_bytes_max, .backlog = backlog_},
                                            {.on_message = [this, session, peer](v1::InferenceUp&& up) { arrived(session, *peer, std::move(up)); },
                                             .on_closed = [this, session](const absl::Status&) { closed(session); }});
    streams_.emplace(session, stream);
    lock.unlock();
    handlers_.opened(session);
    return stream->reactor();
  }

  // Touched by its session's messages only, which come one at a time.
  struct Peer {
    absl::Status node;  // Ok: it is one.
    std::string serial;
    uint64_t revoked_version = 0;
    bool ended = false;  // By us, for a fault of his: what he still sends, before the end has reached him, is dropped.
  };

  void arrived(uint64_t session, Peer& peer, v1::InferenceUp&& up) {
    if (peer.ended) return;
    absl::Status status, refused;
    if (revoked_ != nullptr) {  // A clock read and two comparisons, as long as the list is the same.
      const uint64_t version = revoked_->version();
      if (version != std::exchange(peer.revoked_version, version) && revoked_->contains(peer.serial)) {
        status = absl::PermissionDeniedError(str_cat("the certificate ", peer.serial, " was revoked; the cluster's operator issues another: `cenote certificates issue`"));
      }
    }
    if (status.ok()) {
      status = take_each(std::move(up), [&](InferUp message) {
        if (!peer.node.ok() && std::holds_alternative<ReserveSlot>(message)) refused = peer.node;
        else if (refused.ok()) handlers_.arrived(session, std::move(message));
      });
    }
    if (handlers_.settled) handlers_.settled();
    if (status.ok()) status = refused;
    if (status.ok()) return;
    peer.ended = true;
    if (const auto stream = find(session); stream != nullptr) stream->close(status);
  }

  void end_worst() {
    std::shared_ptr<SessionStream> worst;
    uint64_t bytes = 0;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [session, stream] : streams_) {
        const uint64_t waiting = stream->queued_bytes();
        if (waiting > std::exchange(bytes, std::max(bytes, waiting))) worst = stream;
      }
    }
    if (worst == nullptr) return;
    LOG_WARNING("{} wait for callers who do not read, at most {} may; the session with the most, {}, is ended", format_bytes(*backlog_),
                format_bytes(limits_.backlog_bytes_max), format_bytes(bytes));
    worst->cancel();
  }

  void closed(uint64_t session) {
    {
      const std::lock_guard lock(mutex_);
      streams_.erase(session);
    }
    handlers_.closed(session);
  }

  std::shared_ptr<SessionStream> find(uint64_t session) {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(session);
    return found == streams_.end() ? nullptr : found->second;
  }

  std::shared_ptr<SessionStream> find_to_send(uint64_t session) {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(session);
    if (found == streams_.end()) return nullptr;
    if (corking_ && (corked_.empty() || corked_.back() != found->second)) {
      found->second->cork();
      corked_.push_back(found->second);
    }
    return found->second;
  }

  using Streams = std::unordered_map<uint64_t, std::shared_ptr<SessionStream>>;
  const InferenceHandlers handlers_;
  const std::shared_ptr<RevokedCertificates> revoked_;
  const InferenceLimits limits_;
  const std::shared_ptr<Backlog> backlog_ = std::make_shared<Backlog>(0);
  mutable std::mutex mutex_;
  bool closed_ = false;
  uint64_t next_session_ = 1;
  Streams streams_;
  bool corking_ = false;
  std::vector<std::shared_ptr<SessionStream>> corked_;     // Some perhaps twice, which does not matter.
  std::vector<std::shared_ptr<SessionStream>> uncorking_;  // The corking thread's alone; kept for its memory.
};

}  // namespace

std::unique_ptr<InferenceService> InferenceService::create(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked,
                                                           InferenceLimits limits) {
  return std::make_unique<GrpcInferenceService>(std::move(handlers), std::move(revoked), std::move(limits));
}

}  // namespace cenote::wire
