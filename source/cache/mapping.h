// cache/mapping.h - the executor's side of the cache: waits for arrivals and maps revisions read-only.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/format.h"
#include "message/link.h"

namespace cenote::cache {

// Arrival words and the file. Any thread. Must outlive the Mappings made from it.
class CacheView {
 public:
  // kNotFound, kPermissionDenied; kFailedPrecondition: not a cache, or of another version (names both).
  static absl::StatusOr<std::unique_ptr<CacheView>> open(const std::string& path, uint64_t file_bytes);
  ~CacheView();
  CacheView(const CacheView&) = delete;
  CacheView& operator=(const CacheView&) = delete;

  uint64_t data_bytes() const { return data_bytes_; }
  uint32_t word_count() const { return word_count_; }

  // kInvalidArgument: the extent does not lie in the cache, is longer than a block or its word does not exist.
  absl::Status check(const CacheExtent& extent) const;

  // Bits of the word, with acquire: chunks that are set may be read.
  uint32_t word(uint32_t index) const;
  bool arrived(const CacheExtent& extent) const;

  // Until all chunks of `mask` have arrived. kDeadlineExceeded; kUnavailable: the fetch was given up, the slot was taken away or
  // agent_lost() was called.
  absl::Status wait(const CacheExtent& extent, uint32_t mask, Instant deadline);

  // The agent is gone: waits end with kUnavailable within kLivenessInterval, later ones at once.
  void agent_lost() { lost_.store(true, std::memory_order_release); }
  bool lost() const { return lost_.load(std::memory_order_acquire); }

  static constexpr Duration kLivenessInterval = Duration::from_ms(50);

 private:
  friend class Mapping;
  CacheView() = default;

  struct Shared;
  std::unique_ptr<Shared> shared_;
  const Word* words_ = nullptr;
  Waiters* waiters_ = nullptr;
  uint64_t data_bytes_ = 0;
  uint64_t data_offset_ = 0;
  uint32_t word_count_ = 0;
  std::atomic<bool> lost_{false};
};

// Blocks mapped one after the other into one range of addresses: block i at the sum of the sizes before it, each rounded up to
// 4 KiB. Read-only; neighbours in the cache become one mapping. Thread-compatible, bytes() any thread.
class Mapping {
 public:
  // Reserves the range and maps every extent, so a chunk is readable as soon as its word says so. Errors: those of check();
  // kResourceExhausted (address space or vm.max_map_count, named).
  static absl::StatusOr<Mapping> map(const CacheView& view, std::span<const CacheExtent> extents);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::span<const std::byte> bytes() const { return {address_, size_bytes_}; }
  size_t pieces() const { return pieces_; }

  // Makes page table entries for [begin, end), so that no request pays for faults. Only where chunks have arrived: elsewhere it
  // would make the kernel zero pages that the agent is about to fill. Any thread, also while others read.
  void populate(uint64_t begin, uint64_t end) const;

 private:
  Mapping() = default;
  std::byte* address_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t reserved_bytes_ = 0;
  std::byte* reserved_ = nullptr;
  size_t pieces_ = 0;
};

}  // namespace cenote::cache
