// A Controller that speaks only Join, for tests: remembers its streams and what came on them.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "wire/cenote.grpc.pb.h"
#include "wire/stream.h"

namespace cenote::wire {

// Waits (deadline 20 s) for conditions that other threads bring about.
class Condition {
 public:
  template <typename F>
  void change(F&& f) {
    const std::lock_guard lock(mutex_);
    f();
    changed_.notify_all();
  }
  template <typename F>
  bool wait(F&& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), std::forward<F>(holds));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

class JoinService : public v1::Controller::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::MemberReport, v1::Directive>* Join(grpc::CallbackServerContext* context) override {
    auto stream = ServerStream<v1::MemberReport, v1::Directive>::open(
        context, options,
        {.on_message =
             [this](v1::MemberReport&& report) {
               if (report.beat_us() > 0) return;  // No report, a beat.
               condition.change([&] { reports.push_back(report); });
               if (on_report) on_report(report);  // Last: what it sends may be the test's sign that the report is there.
             },
         .on_closed = [this](absl::Status why) { condition.change([&] { closed.push_back(std::move(why)); }); }});
    condition.change([&] { streams.push_back(stream); });
    return stream->reactor();
  }

  StreamOptions options{.peer = "member"};
  std::function<void(const v1::MemberReport&)> on_report;
  Condition condition;
  std::vector<std::shared_ptr<Stream<v1::Directive>>> streams;
  std::vector<v1::MemberReport> reports;
  std::vector<absl::Status> closed;
};

}  // namespace cenote::wire
