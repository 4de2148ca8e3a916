#include "device/emulated/paced_stream.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace cenote::device {

PacedStream::PacedStream(double gb_per_s, Duration latency) : gb_per_s_(gb_per_s), latency_(latency) {
  worker_ = std::thread([this] { work(); });
}

PacedStream::~PacedStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  worker_.join();  // No deadline: it ends after the copy at hand.
}

absl::Status PacedStream::copy_in(DeviceSpan target, std::span<const std::byte> source, uint64_t tag) {
  if (target.size_bytes != source.size()) {
    return absl::InvalidArgumentError(str_cat("copy of ", source.size(), " bytes into ", target.size_bytes));
  }
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() + done_.size() >= kQueueMax) {
      return absl::ResourceExhaustedError(str_cat("queue_max=", kQueueMax, " copies are queued or wait to be polled"));
    }
    queue_.push_back({target, source, tag, monotonic_now()});
  }
  changed_.notify_all();
  return absl::OkStatus();
}

size_t PacedStream::poll(std::span<uint64_t> tags) {
  const std::lock_guard lock(mutex_);
  const size_t count = std::min(tags.size(), done_.size());
  std::copy_n(done_.begin(), count, tags.begin());
  done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

void PacedStream::wait(Instant deadline) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return !done_.empty() || queue_.empty(); };
  while (!ready()) {
    const Duration left = deadline - monotonic_now();
    if (left.ns <= 0) return;
    changed_.wait_for(lock, std::chrono::nanoseconds(std::min(left.ns, Duration::from_seconds(60).ns)));
  }
}

void PacedStream::work() {
  std::unique_lock lock(mutex_);
  Instant free_at;  // When the emulated link is idle again.
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !queue_.empty(); });  // No deadline: a copy or the end wakes it.
    if (stop_) return;
    const Copy copy = queue_.front();
    lock.unlock();
    std::memcpy(reinterpret_cast<void*>(copy.target.address), copy.source.data(), copy.source.size());
    lock.lock();
    const Duration transfer{gb_per_s_ > 0 ? static_cast<int64_t>(static_cast<double>(copy.source.size()) / gb_per_s_) : 0};
    free_at = std::max(free_at, copy.queued_at) + latency_ + transfer;
    for (Duration left = free_at - monotonic_now(); left.ns > 0 && !stop_; left = free_at - monotonic_now()) {
      changed_.wait_for(lock, std::chrono::nanoseconds(left.ns), [&] { return stop_; });
    }
    queue_.pop_front();
    done_.push_back(copy.tag);
    changed_.notify_all();
  }
}

}  // namespace cenote::device
