#include "wire/agent_service.h"

#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/convert_link.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

constexpr int kBeatSlot = 0;
using AttachStream = ServerStream<v1::ExecutorUp, v1::ExecutorDown>;

class AgentServiceImpl final : public AgentService, private v1::Agent::CallbackService {
 public:
  explicit AgentServiceImpl(AgentHandlers handlers) : handlers_(std::move(handlers)) {}

  grpc::Service* service() override { return this; }

  void send(StreamId id, const ExecutorDown& message) override {
    const std::shared_ptr<Stream<v1::ExecutorDown>> stream = find(id);
    if (stream == nullptr) return;
    v1::ExecutorDown proto;
    to_proto(message, &proto);
    const bool beat = std::holds_alternative<AttachBeat>(message);
    const absl::Status status = beat ? stream->send_latest(kBeatSlot, std::move(proto)) : stream->send(std::move(proto));
    if (status.code() != absl::StatusCode::kResourceExhausted) return;  // Closed: on_closed says so.
    LOG_WARNING("executor stream {}: {}; it is broken off", id, to_std(status.message()));
    stream->cancel();
  }

  void close(StreamId id, absl::Status why) override {
    if (const auto stream = find(id)) stream->close(std::move(why));
  }

  void close_all() override {
    std::map<StreamId, std::shared_ptr<Stream<v1::ExecutorDown>>> streams;
    {
      const std::lock_guard lock(mutex_);
      streams = streams_;
    }
    for (const auto& [id, stream] : streams) stream->close(absl::UnavailableError("the agent is ending"));
  }

 private:
  grpc::ServerBidiReactor<v1::ExecutorUp, v1::ExecutorDown>* Attach(grpc::CallbackServerContext* context) override {
    StreamId id = 0;
    {
      const std::lock_guard lock(mutex_);
      id = next_++;
    }
    auto stream = AttachStream::open(
        context, {.peer = str_cat("executor stream ", id)},
        {.on_message =
             [this, id](v1::ExecutorUp&& proto) {
               absl::StatusOr<ExecutorUp> message = from_proto(proto);
               if (message.ok()) return handlers_.on_message(id, *std::move(message));
               LOG_WARNING("executor stream {}: {}", id, to_std(message.status().message()));
               close(id, message.status());
             },
         .on_closed =
             [this, id](absl::Status status) {
               {
                 const std::lock_guard lock(mutex_);
                 if (streams_.erase(id) == 0) ended_.insert(id);
               }
               handlers_.on_closed(id, std::move(status));
             }});
    {
      // It may have ended before we came here; ids are remembered only for that moment.
      const std::lock_guard lock(mutex_);
      if (ended_.erase(id) == 0) streams_[id] = stream;
    }
    return stream->reactor();
  }

  std::shared_ptr<Stream<v1::ExecutorDown>> find(StreamId id) {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : found->second;
  }

  const AgentHandlers handlers_;
  std::mutex mutex_;
  StreamId next_ = 1;
  std::map<StreamId, std::shared_ptr<Stream<v1::ExecutorDown>>> streams_;
  std::set<StreamId> ended_;
};

}  // namespace

std::unique_ptr<AgentService> AgentService::create(AgentHandlers handlers) {
  return std::make_unique<AgentServiceImpl>(std::move(handlers));
}

}  // namespace cenote::wire
