// device/emulated/arena.h - the emulated device's memory: anonymous pages, first fit, 2 MiB granular so that tensors keep their
// alignment. Thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "device/device.h"

namespace cenote::device {

class EmulatedArena {
 public:
  static constexpr uint64_t kAlignBytes = 2ull << 20;

  // kResourceExhausted: the address space has no such run.
  static absl::StatusOr<std::unique_ptr<EmulatedArena>> create(uint64_t size_bytes);
  ~EmulatedArena();
  EmulatedArena(const EmulatedArena&) = delete;
  EmulatedArena& operator=(const EmulatedArena&) = delete;

  // kInvalidArgument: 0 bytes. kOutOfRange: more than the arena has. kResourceExhausted: names what is asked, free and the longest free run.
  absl::StatusOr<DeviceSpan> take(uint64_t size_bytes);
  // Gives the pages back to the host too. CENOTE_CHECKs that the span was taken.
  void give(DeviceSpan span);
  DeviceUsage usage() const;

 private:
  EmulatedArena(std::byte* base, uint64_t mapped_bytes, uint64_t size_bytes);

  std::byte* base_;
  uint64_t mapped_bytes_;
  uint64_t size_bytes_;
  mutable std::mutex mutex_;
  uint64_t used_bytes_ = 0;
  std::map<uint64_t, uint64_t> free_;   // Offset -> bytes; neighbours merged.
  std::map<uint64_t, uint64_t> taken_;  // Offset -> bytes.
};

}  // namespace cenote::device
