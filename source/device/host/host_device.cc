#include "device/host/host_device.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/status.h"

namespace cenote::device {
namespace {

class HostStream final : public Stream {
 public:
  absl::Status copy_in(DeviceSpan target, std::span<const std::byte> source, uint64_t tag) override {
    if (target.size_bytes != source.size()) {
      return absl::InvalidArgumentError(str_cat("copy of ", source.size(), " bytes into ", target.size_bytes));
    }
    if (done_.size() >= kQueueMax) {
      return absl::ResourceExhaustedError(str_cat("queue_max=", kQueueMax, " finished copies wait to be polled"));
    }
    std::memcpy(reinterpret_cast<void*>(target.address), source.data(), source.size());
    done_.push_back(tag);
    return absl::OkStatus();
  }

  size_t poll(std::span<uint64_t> tags) override {
    const size_t count = std::min(tags.size(), done_.size());
    std::copy_n(done_.begin(), count, tags.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

  void wait(Instant) override {}  // Every copy is done when copy_in() returns.

 private:
  static constexpr size_t kQueueMax = 1024;
  std::deque<uint64_t> done_;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(std::string name) : name_(std::move(name)) {}

  std::string name() const override { return name_; }
  bool maps_host_memory() const override { return true; }
  absl::StatusOr<DeviceSpan> reserve(uint64_t) override {
    return absl::UnimplementedError(str_cat(name_, " computes on host memory; map the cache instead of reserving"));
  }
  void release(DeviceSpan) override { CENOTE_CHECK(!"nothing was reserved"); }
  DeviceUsage usage() const override { return {}; }
  absl::StatusOr<std::unique_ptr<Stream>> open_stream() override { return std::make_unique<HostStream>(); }
  void pace_compute(Duration, Duration) override {}

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Device> make_host_device(const DeviceOptions& options) { return std::make_unique<HostDevice>(options.name); }

}  // namespace cenote::device
