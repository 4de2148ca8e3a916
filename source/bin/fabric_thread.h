// bin/fabric_thread.h - the thread that owns a Transport and stands in its wait(): what makes a memory server readable. Everything that
// touches the Transport or its regions runs there, as a task.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "fabric/transport.h"

namespace cenote {

class FabricThread {
 public:
  using Task = std::function<void(fabric::Transport&)>;

  // Opens the Transport on its thread; errors are open_transport()'s.
  static absl::StatusOr<std::unique_ptr<FabricThread>> start(const fabric::TransportOptions& options);
  // Runs what was posted, then destroys the Transport. Regions must have been destroyed by a task before.
  ~FabricThread();
  FabricThread(const FabricThread&) = delete;
  FabricThread& operator=(const FabricThread&) = delete;

  void post(Task task);      // Any thread; returns at once.
  void run(const Task& task);  // Any other thread; returns when the task has run.
  // Gets what completes; null: nobody. Called on this thread, to be set by its tasks or before the first operation.
  void on_completion(std::function<void(const fabric::Completion&)> taker) { taker_ = std::move(taker); }
  const std::string& provider() const { return provider_; }
  const fabric::Address& address() const { return address_; }

 private:
  FabricThread() = default;
  void main(fabric::TransportOptions options, std::promise<absl::Status>& opened);

  std::mutex mutex_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
  std::function<void(const fabric::Completion&)> taker_;
  fabric::Transport* transport_ = nullptr;  // wake() alone is called from other threads.
  std::string provider_;
  fabric::Address address_;
  std::thread thread_;
};

}  // namespace cenote
