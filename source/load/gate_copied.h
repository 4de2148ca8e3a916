// load/gate_copied.h - the gate of devices with memory of their own: a copier thread carries groups from the cache to the device as
// they arrive, rows that somebody waits for before them. The gate opens for what the device has.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cache/mapping.h"
#include "device/device.h"
#include "device/weight_gate.h"
#include "load/plan.h"
#include "load/resident.h"

namespace cenote::load {

struct CopyStats {
  Duration elapsed;    // First copy queued to last one done.
  uint64_t bytes = 0;
};

class CopiedGate final : public device::WeightGate {
 public:
  // Borrowed: view, mapping (until complete()), blocks, the device behind `stream`.
  CopiedGate(const Digest& revision, cache::CacheView& view, const cache::Mapping& mapping, std::span<const BlockEntry> blocks,
             std::vector<CacheExtent> extents, std::vector<Group> groups, device::DeviceSpan target,
             std::unique_ptr<device::Stream> stream, WantCallback want);
  ~CopiedGate() override;

  bool complete() const override { return complete_.load(std::memory_order_acquire); }
  absl::Status wait(device::ByteRange range, Instant deadline) override;
  absl::Status wait_rows(device::ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant deadline) override;
  bool transferring() const override { return !complete(); }
  absl::Status wait_complete(Instant deadline);
  CopyStats stats() const;

 private:
  absl::Status wait_chunks(std::span<const WantedChunks> chunks, Instant deadline);
  void copy();
  bool copy_wanted();
  bool copy_group(size_t group);
  bool queue_copy(uint32_t block, uint32_t chunks);
  void collect(bool block);

  const Digest revision_;
  cache::CacheView& view_;
  const cache::Mapping& mapping_;
  const std::span<const BlockEntry> blocks_;
  const std::vector<CacheExtent> extents_;
  const std::vector<Group> groups_;
  const device::DeviceSpan target_;
  const WantCallback want_;
  std::unique_ptr<device::Stream> stream_;  // The copier's.

  // The copier's alone.
  std::vector<uint32_t> queued_;                             // Per block: chunks given to the stream.
  std::map<uint64_t, std::pair<uint32_t, uint32_t>> copies_; // Tag -> block, chunks.
  uint64_t next_tag_ = 0;
  Instant first_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint32_t> copied_;    // Per block: chunks on the device.
  std::vector<WantedChunks> wanted_;
  absl::Status failure_;            // Why the copier waits in vain at the moment; ok while it gets on.
  CopyStats stats_;
  bool stop_ = false;
  std::atomic<bool> complete_{false};
  std::thread copier_;
};

}  // namespace cenote::load
