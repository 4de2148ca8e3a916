#include "device/emulated/arena.h"

#include <algorithm>
#include <sys/mman.h>

#include "base/status.h"
#include "base/units.h"

namespace cenote::device {

absl::StatusOr<std::unique_ptr<EmulatedArena>> EmulatedArena::create(uint64_t size_bytes) {
  size_bytes = size_bytes / kAlignBytes * kAlignBytes;
  if (size_bytes == 0) {
    return absl::InvalidArgumentError("an emulated device needs memory: set agent.device.memory to 2 MiB or more");
  }
  const uint64_t mapped = size_bytes + kAlignBytes;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(str_cat("cannot map ", format_bytes(size_bytes), " for an emulated device; lower agent.device.memory"));
  }
  madvise(base, mapped, MADV_HUGEPAGE);
  return std::unique_ptr<EmulatedArena>(new EmulatedArena(static_cast<std::byte*>(base), mapped, size_bytes));
}

EmulatedArena::EmulatedArena(std::byte* base, uint64_t mapped_bytes, uint64_t size_bytes)
    : base_(base), mapped_bytes_(mapped_bytes), size_bytes_(size_bytes) {
  const uint64_t start = round_up(reinterpret_cast<uint64_t>(base), kAlignBytes) - reinterpret_cast<uint64_t>(base);
  free_.emplace(start, size_bytes);
}

EmulatedArena::~EmulatedArena() { munmap(base_, mapped_bytes_); }

absl::StatusOr<DeviceSpan> EmulatedArena::take(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::InvalidArgumentError("a reservation of 0 bytes");
  if (size_bytes > size_bytes_) {
    return absl::OutOfRangeError(str_cat(format_bytes(size_bytes), " of device memory asked, the device has ", format_bytes(size_bytes_),
                                         "; raise agent.device.memory"));
  }
  const std::lock_guard lock(mutex_);
  uint64_t longest = 0;
  const uint64_t wanted = round_up(size_bytes, kAlignBytes);
  for (auto run = free_.begin(); run != free_.end(); ++run) {
    longest = std::max(longest, run->second);
    if (run->second < wanted) continue;
    const auto [offset, bytes] = *run;
    free_.erase(run);
    if (bytes > wanted) free_.emplace(offset + wanted, bytes - wanted);
    taken_.emplace(offset, wanted);
    used_bytes_ += wanted;
    return DeviceSpan{static_cast<DeviceAddress>(reinterpret_cast<uint64_t>(base_) + offset), size_bytes};
  }
  return absl::ResourceExhaustedError(str_cat(format_bytes(size_bytes), " of device memory asked, ", format_bytes(size_bytes_ - used_bytes_),
                                              " of ", format_bytes(size_bytes_), " free, longest run ", format_bytes(longest),
                                              "; evict a model or raise agent.device.memory"));
}

void EmulatedArena::give(DeviceSpan span) {
  const std::lock_guard lock(mutex_);
  const auto taken = taken_.find(static_cast<uint64_t>(span.address) - reinterpret_cast<uint64_t>(base_));
  CENOTE_CHECK(taken != taken_.end() && taken->second == round_up(span.size_bytes, kAlignBytes));
  auto [offset, bytes] = *taken;
  taken_.erase(taken);
  used_bytes_ -= bytes;
  madvise(base_ + offset, bytes, MADV_DONTNEED);
  const auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first == offset + bytes) {
    bytes += after->second;
    free_.erase(after);
  }
  const auto next = free_.lower_bound(offset);
  if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == offset) {
    std::prev(next)->second += bytes;
  } else {
    free_.emplace(offset, bytes);
  }
}

DeviceUsage EmulatedArena::usage() const {
  const std::lock_guard lock(mutex_);
  return {.capacity_bytes = size_bytes_, .used_bytes = used_bytes_};
}

}  // namespace cenote::device
