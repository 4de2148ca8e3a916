#include "wire/inference_service.h"

#include <map>
#include <mutex>
#include <string>

#include "base/log.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/credentials.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

using SessionStream = ServerStream<v1::InferenceUp, v1::InferenceDown>;

class GrpcInferenceService final : public InferenceService, private v1::Inference::CallbackService {
 public:
  explicit GrpcInferenceService(InferenceHandlers handlers) : handlers_(std::move(handlers)) {}

  grpc::Service* service() override { return this; }

  void send(uint64_t session, InferDown message) override {
    const std::shared_ptr<SessionStream> stream = find(session);
    if (stream == nullptr) return;
    const absl::Status status = stream->send(to_proto(std::move(message)));
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
    const absl::Status node = require_node(*context, "reserve slots of executors");
    std::unique_lock lock(mutex_);
    if (closed_) {
      lock.unlock();
      return SessionStream::refuse(context, absl::UnavailableError("the daemon is ending"));
    }
    const uint64_t session = next_session_++;
    const auto stream = SessionStream::open(context, {.peer = context->peer(), .queue_max = kQueueMax},
                                            {.on_message = [this, session, node](v1::InferenceUp&& up) { arrived(session, node, std::move(up)); },
                                             .on_closed = [this, session](const absl::Status&) { closed(session); }});
    streams_.emplace(session, stream);
    lock.unlock();
    handlers_.opened(session);
    return stream->reactor();
  }

  void arrived(uint64_t session, const absl::Status& node, v1::InferenceUp&& up) {
    absl::StatusOr<InferUp> message = from_proto(std::move(up));
    if (message.ok() && std::holds_alternative<ReserveSlot>(*message) && !node.ok()) message = node;
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
  std::mutex mutex_;
  bool closed_ = false;
  uint64_t next_session_ = 1;
  std::map<uint64_t, std::shared_ptr<SessionStream>> streams_;
};

}  // namespace

std::unique_ptr<InferenceService> InferenceService::create(InferenceHandlers handlers) {
  return std::make_unique<GrpcInferenceService>(std::move(handlers));
}

}  // namespace cenote::wire
