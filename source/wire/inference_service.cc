#include "wire/inference_service.h"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/status.h"
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
  GrpcInferenceService(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked)
      : handlers_(std::move(handlers)), revoked_(std::move(revoked)) {}

  grpc::Service* service() override { return this; }

  void send(uint64_t session, InferDown message) override {
    const std::shared_ptr<SessionStream> stream = find(session);
    if (stream == nullptr) return;
    // A caller who does not read has one beat waiting, not one for each time that it was due.
    const bool beat = std::holds_alternative<PeerBeat>(message);
    const absl::Status status = beat ? stream->send_latest(kBeatSlot, to_proto(std::move(message))) : stream->send(to_proto(std::move(message)));
    if (status.code() != absl::StatusCode::kResourceExhausted) return;
    LOG_WARNING("session {}: {}; it is ended", session, std::string(status.message()));
    stream->cancel();
  }

  void close_all() override {
    std::map<uint64_t, std::shared_ptr<SessionStream>> streams;
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
    const uint64_t session = next_session_++;
    const auto stream = SessionStream::open(context, {.peer = context->peer(), .queue_max = kQueueMax},
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
  };

  void arrived(uint64_t session, Peer& peer, v1::InferenceUp&& up) {
    absl::StatusOr<InferUp> message = from_proto(std::move(up));
    if (message.ok() && std::holds_alternative<ReserveSlot>(*message) && !peer.node.ok()) message = peer.node;
    if (revoked_ != nullptr) {  // A clock read and two comparisons, as long as the list is the same.
      const uint64_t version = revoked_->version();
      if (version != std::exchange(peer.revoked_version, version) && revoked_->contains(peer.serial)) {
        message = absl::PermissionDeniedError(str_cat("the certificate ", peer.serial, " was revoked; the cluster's operator issues another: `cenote certificates issue`"));
      }
    }
    if (message.ok()) return handlers_.arrived(session, *std::move(message));
    if (const auto stream = find(session); stream != nullptr) stream->close(message.status());
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

  const InferenceHandlers handlers_;
  const std::shared_ptr<RevokedCertificates> revoked_;
  std::mutex mutex_;
  bool closed_ = false;
  uint64_t next_session_ = 1;
  std::map<uint64_t, std::shared_ptr<SessionStream>> streams_;
};

}  // namespace

std::unique_ptr<InferenceService> InferenceService::create(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked) {
  return std::make_unique<GrpcInferenceService>(std::move(handlers), std::move(revoked));
}

}  // namespace cenote::wire
