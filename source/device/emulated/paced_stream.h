// device/emulated/paced_stream.h - copies that really happen and take at least latency + bytes / bandwidth. One worker thread per
// stream copies, then sleeps what is left of the copy's time.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "device/device.h"

namespace cenote::device {

class PacedStream final : public Stream {
 public:
  static constexpr size_t kQueueMax = 64;

  // gb_per_s 0: not paced.
  PacedStream(double gb_per_s, Duration latency);
  ~PacedStream() override;  // Waits for the copy in progress; queued ones are dropped.

  absl::Status copy_in(DeviceSpan target, std::span<const std::byte> source, uint64_t tag) override;
  size_t poll(std::span<uint64_t> tags) override;
  void wait(Instant deadline) override;

 private:
  struct Copy {
    DeviceSpan target;
    std::span<const std::byte> source;
    uint64_t tag;
    Instant queued_at;
  };
  void work();

  const double gb_per_s_;
  const Duration latency_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Copy> queue_;      // The front one is being copied.
  std::deque<uint64_t> done_;   // Not polled yet; with queue_ at most kQueueMax.
  bool stop_ = false;
  std::thread worker_;
};

}  // namespace cenote::device
