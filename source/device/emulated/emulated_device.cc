#include "device/emulated/emulated_device.h"

#include <chrono>
#include <thread>

#include "base/status.h"
#include "device/emulated/arena.h"
#include "device/emulated/paced_stream.h"

namespace cenote::device {
namespace {

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice(DeviceOptions options, std::unique_ptr<EmulatedArena> arena)
      : options_(std::move(options)), arena_(std::move(arena)) {}

  std::string name() const override { return options_.name; }
  bool maps_host_memory() const override { return false; }
  absl::StatusOr<DeviceSpan> reserve(uint64_t size_bytes) override {
    auto span = arena_->take(size_bytes);
    return span.ok() ? span : annotate(span.status(), options_.name);
  }
  void release(DeviceSpan span) override { arena_->give(span); }
  DeviceUsage usage() const override { return arena_->usage(); }
  absl::StatusOr<std::unique_ptr<Stream>> open_stream() override {
    return std::make_unique<PacedStream>(options_.copy_gb_per_s, options_.copy_latency);
  }
  void pace_compute(Duration elapsed, Duration calibrated) override {
    if (calibrated > elapsed) std::this_thread::sleep_for(std::chrono::nanoseconds((calibrated - elapsed).ns));
  }

 private:
  DeviceOptions options_;
  std::unique_ptr<EmulatedArena> arena_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> make_emulated_device(const DeviceOptions& options) {
  if (!(options.copy_gb_per_s >= 0) || options.copy_latency.ns < 0) {
    return absl::InvalidArgumentError(str_cat(options.name, ": copy_gb_per_s ", options.copy_gb_per_s, " and copy_latency ",
                                              options.copy_latency.ns, " ns must not be negative"));
  }
  auto arena = EmulatedArena::create(options.memory_bytes);
  if (!arena.ok()) return annotate(arena.status(), options.name);
  return std::make_unique<EmulatedDevice>(options, *std::move(arena));
}

}  // namespace cenote::device
