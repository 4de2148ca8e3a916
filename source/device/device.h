// device/device.h - a device: its memory, its copy streams, its pace. No vendor type crosses this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace cenote::device {

// An address in a device's memory; on host-addressable devices it is a pointer's value.
enum class DeviceAddress : uint64_t {};

struct DeviceSpan {
  DeviceAddress address{};
  uint64_t size_bytes = 0;
};

// Copies into a device, in order. Single owner thread. Sources must stay until the copy is done.
class Stream {
 public:
  virtual ~Stream() = default;
  // Queues a copy. kResourceExhausted: poll and try again. kInvalidArgument: sizes differ.
  virtual absl::Status copy_in(DeviceSpan target, std::span<const std::byte> source, uint64_t tag) = 0;
  // Tags of copies finished since the last call, in order; returns how many. Never blocks.
  virtual size_t poll(std::span<uint64_t> tags) = 0;
  // Blocks until poll() would return something, nothing is queued, or `deadline`.
  virtual void wait(Instant deadline) = 0;
};

struct DeviceUsage {
  uint64_t capacity_bytes = 0;  // 0: no arena of its own.
  uint64_t used_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "host:0", "emulated:1", "cuda:0"
  // True: computes directly on host memory, so weights are mapped, not copied; reserve() is then kUnimplemented.
  virtual bool maps_host_memory() const = 0;
  // Device memory for one revision, given back by release(). kResourceExhausted says how much is free; kOutOfRange: more than the device has.
  virtual absl::StatusOr<DeviceSpan> reserve(uint64_t size_bytes) = 0;
  virtual void release(DeviceSpan span) = 0;
  virtual DeviceUsage usage() const = 0;
  virtual absl::StatusOr<std::unique_ptr<Stream>> open_stream() = 0;
  // Called after `elapsed` of real computing for which the device is calibrated to `calibrated`; an emulated device sleeps
  // the difference, others return at once. calibrated.ns == 0: not calibrated.
  virtual void pace_compute(Duration elapsed, Duration calibrated) = 0;
};

struct DeviceOptions {
  std::string name;                    // kind:index
  uint64_t memory_bytes = 0;           // emulated: size of the arena.
  double copy_gb_per_s = 0;            // emulated: pace of copies, 1 GB = 10^9 bytes.
  Duration copy_latency;               // emulated: added to each copy.
};

// kInvalidArgument: unknown kind; kUnimplemented: the kind's plug-in is not there, and why.
absl::StatusOr<std::unique_ptr<Device>> open_device(const DeviceOptions& options);

}  // namespace cenote::device
