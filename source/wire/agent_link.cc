#include "wire/agent_link.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/convert_link.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

using AttachStream = ClientStream<v1::ExecutorUp, v1::ExecutorDown>;
constexpr int kReportSlot = 0;
constexpr int kBeatSlot = 1;

class AgentLinkImpl final : public AgentLink {
 public:
  AgentLinkImpl(const std::string& socket_path, AgentLinkEvents events)
      : events_(std::move(events)),
        stub_(v1::Agent::NewStub(open_channel(str_cat("unix:", socket_path), unix_channel_credentials()))) {
    stream_ = AttachStream::open(
        [this](grpc::ClientContext* context, auto* reactor) {
          context->set_wait_for_ready(true);
          stub_->async()->Attach(context, reactor);
        },
        {.peer = str_cat("agent at ", socket_path)},
        {.on_message =
             [this](v1::ExecutorDown&& proto) {
               // The agent speaks only after our first report, so stream_ is set.
               absl::StatusOr<ExecutorDown> message = from_proto(proto);
               if (message.ok()) return events_.on_message(*std::move(message));
               LOG_ERROR("from the agent: {}", to_std(message.status().message()));
               stream_->cancel();
             },
         .on_closed = [this](absl::Status status) { closed(std::move(status)); }});
  }

  ~AgentLinkImpl() override {
    stream_->cancel();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_; });  // No deadline: it was cancelled.
  }

  absl::Status send(const ExecutorUp& message) override {
    v1::ExecutorUp proto;
    to_proto(message, &proto);
    if (std::holds_alternative<AttachBeat>(message)) return stream_->send_latest(kBeatSlot, std::move(proto));
    if (std::holds_alternative<ExecutorReport>(message)) return stream_->send_latest(kReportSlot, std::move(proto));
    return stream_->send(std::move(proto));
  }

  void close() override { stream_->close(); }

 private:
  void closed(absl::Status status) {
    events_.on_closed(std::move(status));
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  const AgentLinkEvents events_;
  const std::unique_ptr<v1::Agent::Stub> stub_;
  std::shared_ptr<AttachStream> stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
};

}  // namespace

std::unique_ptr<AgentLink> AgentLink::open(const std::string& socket_path, AgentLinkEvents events) {
  return std::make_unique<AgentLinkImpl>(socket_path, std::move(events));
}

}  // namespace cenote::wire
