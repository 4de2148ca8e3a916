#include "bin/fabric_thread.h"

#include <array>
#include <utility>

namespace cenote {
namespace {

// A target is woken by its peers' traffic; this only bounds what a lost wake-up could cost.
constexpr Duration kWaitMax = Duration::from_ms(10'000);

}  // namespace

absl::StatusOr<std::unique_ptr<FabricThread>> FabricThread::start(const fabric::TransportOptions& options) {
  std::unique_ptr<FabricThread> fabric(new FabricThread);
  std::promise<absl::Status> opened;
  std::future<absl::Status> status = opened.get_future();
  fabric->thread_ = std::thread([raw = fabric.get(), options, &opened] { raw->main(options, opened); });
  if (const absl::Status result = status.get(); !result.ok()) return result;
  return fabric;
}

FabricThread::~FabricThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (transport_ != nullptr) transport_->wake();
  }
  thread_.join();  // No deadline: it was woken to stop; each of its tasks is a call with one.
}

void FabricThread::post(Task task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  transport_->wake();
}

void FabricThread::run(const Task& task) {
  std::promise<void> ran;
  post([&](fabric::Transport& transport) {
    task(transport);
    ran.set_value();
  });
  ran.get_future().wait();
}

void FabricThread::main(fabric::TransportOptions options, std::promise<absl::Status>& opened) {
  absl::StatusOr<std::unique_ptr<fabric::Transport>> transport = fabric::open_transport(options);
  if (!transport.ok()) {
    opened.set_value(transport.status());
    return;
  }
  provider_ = (*transport)->provider();
  address_ = (*transport)->address();
  transport_ = transport->get();
  opened.set_value(absl::OkStatus());  // `opened` is gone after this.

  std::array<fabric::Completion, 64> completions;
  while (true) {
    std::deque<Task> tasks;
    {
      const std::lock_guard lock(mutex_);
      std::swap(tasks, tasks_);
      if (tasks.empty() && stopping_) {
        transport_ = nullptr;
        break;
      }
    }
    for (const Task& task : tasks) task(**transport);
    bool completed = false;
    for (size_t count = completions.size(); count == completions.size();) {
      count = (*transport)->poll(completions);
      completed = completed || count > 0;
      for (size_t i = 0; i < count && taker_; ++i) taker_(completions[i]);
    }
    if (tasks.empty() && !completed) (*transport)->wait(kWaitMax);
  }
}

}  // namespace cenote
