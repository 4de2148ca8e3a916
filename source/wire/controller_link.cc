#include "wire/controller_link.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/status.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/convert_member.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

constexpr Duration kRetryMin = Duration::from_ms(50);
constexpr Duration kRetryMax = Duration::from_ms(1'000);
constexpr int kSnapshotSlot = 0;
constexpr int kBeatSlot = 1;

using JoinStream = ClientStream<v1::MemberReport, v1::Directive>;

class Link final : public ControllerLink {
 public:
  Link(ControllerLinkOptions options, ControllerLinkEvents events)
      : options_(std::move(options)), events_(std::move(events)),
        channel_(open_channel(options_.address, channel_credentials(options_.identity))),
        stub_(v1::Controller::NewStub(channel_)), thread_([this] { run(); }) {}

  ~Link() override {
    std::shared_ptr<JoinStream> stream;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      stream = stream_;
    }
    changed_.notify_all();
    if (stream != nullptr) stream->cancel();
    thread_.join();  // No deadline: its stream was cancelled.
  }

  void report(const MemberReport& report) override {
    if (const auto stream = current(); stream != nullptr) {
      v1::MemberReport proto;
      to_proto(report, &proto);
      (void)stream->send_latest(kSnapshotSlot, std::move(proto));  // Fails only when broken: on_connected follows.
    }
  }

  absl::Status report_increment(const MemberReport& report) override {
    const auto stream = current();
    if (stream == nullptr) return absl::UnavailableError("not connected to the controller at " + options_.address);
    v1::MemberReport proto;
    to_proto(report, &proto);
    const absl::Status status = stream->send(std::move(proto));
    return status.ok() ? status : absl::UnavailableError(status.message());
  }

  void beat(Duration next) override {
    const auto stream = current();
    if (stream == nullptr) return;
    v1::MemberReport proto;
    proto.set_beat_us(next.us());
    (void)stream->send_latest(kBeatSlot, std::move(proto));
  }

  Instant heard_at() const override { return {heard_at_ns_.load(std::memory_order_relaxed)}; }

  bool connected() const override {
    const std::lock_guard lock(mutex_);
    return answered_ && !ended_;
  }

 private:
  std::shared_ptr<JoinStream> current() const {
    const std::lock_guard lock(mutex_);
    return stream_;
  }

  // Opens a stream, waits for its end, pauses, again.
  void run() {
    Duration pause = kRetryMin;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        if (stopping_) return;
        closed_ = false;
        ended_ = false;
        answered_ = false;
      }
      connect();
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_; });  // No deadline: stream.h ends a stream that is silent.
      stream_.reset();
      pause = answered_ ? kRetryMin : std::min(pause * 2, kRetryMax);
      answered_ = false;
      changed_.wait_for(lock, std::chrono::nanoseconds(pause.ns), [this] { return stopping_; });
      if (stopping_) return;
    }
  }

  void connect() {
    auto stream = JoinStream::open(
        [this](grpc::ClientContext* context, auto* reactor) { stub_->async()->Join(context, reactor); },
        {.peer = "controller at " + options_.address, .silence_max = options_.silence_max},
        {.on_message = [this](v1::Directive&& proto) { arrived(proto); },
         .on_closed = [this](absl::Status why) { ended(std::move(why)); }});
    bool stopping = false;
    {
      const std::lock_guard lock(mutex_);
      stream_ = stream;
      stopping = stopping_;
    }
    if (stopping) {
      stream->cancel();
    } else {
      events_.on_connected();
    }
  }

  void arrived(const v1::Directive& proto) {
    absl::StatusOr<Directive> directive = from_proto(proto);
    if (!directive.ok()) {
      LOG_WARNING("controller at {} sent a directive that is left out: {}", options_.address,
                  std::string(directive.status().message()));
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      answered_ = true;
    }
    heard_at_ns_.store(monotonic_now().ns, std::memory_order_relaxed);
    events_.on_directive(*std::move(directive));
  }

  void ended(absl::Status why) {
    if (why.ok()) why = absl::UnavailableError("controller at " + options_.address + " ended the stream");
    bool stopping = false;
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;  // Before anyone is told.
      stopping = stopping_;
    }
    if (!stopping) events_.on_disconnected(std::move(why));
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  const ControllerLinkOptions options_;
  const ControllerLinkEvents events_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool ended_ = false;   // The stream has.
  bool closed_ = false;  // And who listens was told.
  bool answered_ = false;
  std::shared_ptr<JoinStream> stream_;
  std::atomic<int64_t> heard_at_ns_{0};
  std::thread thread_;
};

}  // namespace

std::unique_ptr<ControllerLink> ControllerLink::open(ControllerLinkOptions options, ControllerLinkEvents events) {
  return std::make_unique<Link>(std::move(options), std::move(events));
}

}  // namespace cenote::wire
