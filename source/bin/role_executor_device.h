// bin/role_executor_device.h - the executor's device side: opens revisions (map, then build the graph), runs and warms them up, closes
// them. Two threads of its own: one prepares and closes (ResidentRevision wants both from one thread), one computes. Results are
// posted back as events. Requests are computed one at a time; preparing another revision goes on beside it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "base/cluster_settings.h"
#include "bin/worker.h"
#include "cache/mapping.h"
#include "device/device.h"
#include "execute/model.h"
#include "load/resident.h"
#include "node/executor_events.h"

namespace cenote {

// What is held of one revision; made and destroyed on the preparing thread.
struct HeldRevision {
  std::unique_ptr<load::ResidentRevision> weights;
  std::unique_ptr<execute::Model> model;       // Borrows weights: destroyed first.
  Readiness reported = Readiness::kNone;       // The role's thread only.
  bool released = false;                       // Its cache was given back to the agent; the device has a copy.

  // FetchDone has been handed to `weights`: its stages are known.
  void fetch_done(const FetchDone& done);
  void wait_fetched(Duration at_most);

  ~HeldRevision() { model.reset(); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool fetched_ = false;
};

// Answers open(). `held` is null exactly if `status` is not ok.
struct Prepared {
  Digest revision;
  absl::Status status;
  bool all_cached = false;
  std::shared_ptr<HeldRevision> held;
};
struct Closed { Digest revision; };            // Answers close().
using DeviceEvent = std::variant<Prepared, Closed, node::executor::RunEnded, node::executor::WarmUpEnded>;

class ExecutorDevice {
 public:
  // `soon`: another event is likely to follow within microseconds, the two may be looked at together.
  using Post = std::function<void(DeviceEvent event, bool soon)>;

  // Events are posted from its threads; `want` is called by the computing one.
  static absl::StatusOr<std::unique_ptr<ExecutorDevice>> start(const ClusterSettings& settings, const DeviceSettings& device, Post post,
                                                               load::WantCallback want);
  // Ends what computes (its waits end with kUnavailable once the cache's view was told that the agent is lost) and closes everything.
  ~ExecutorDevice();

  bool maps_host_memory() const { return device_->maps_host_memory(); }
  cache::CacheView* view() { return view_.get(); }
  absl::Status attach(const std::string& cache_path, uint64_t cache_bytes);  // Once, before open().

  void open(const Digest& revision, Acquired acquired);
  void run(node::executor::RunModel run, std::shared_ptr<HeldRevision> held);
  void warm_up(const Digest& revision, std::shared_ptr<HeldRevision> held);
  void close(const Digest& revision, std::shared_ptr<HeldRevision> held);    // The last holder's call.

 private:
  ExecutorDevice() = default;
  Prepared prepare(const Digest& revision, const Acquired& acquired);
  node::executor::RunEnded compute(const node::executor::RunModel& run, HeldRevision& held);
  uint64_t begin_run();  // Bytes of the inputs of the run behind it; none: UINT64_MAX.
  bool next_ends_soon(Instant began, bool small);

  load::LoadOptions load_options_;
  std::map<std::string, double> compute_ms_;
  Post post_;
  load::WantCallback want_;
  std::mutex waiting_mutex_;
  std::deque<uint64_t> waiting_;                 // Bytes of the inputs of runs that have not begun.
  std::optional<Instant> unseen_since_;          // The computing thread's: when it first posted one that may wait for the next.
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<cache::CacheView> view_;
  std::unique_ptr<execute::Engine> engine_;
  std::unique_ptr<Worker> preparer_;
  std::unique_ptr<Worker> computer_;
};

}  // namespace cenote
