// load/gate_mapped.h - the gate of devices that compute on host memory: the cache's arrival words are the gate, group by group.
// A helper thread follows the arrivals and makes page table entries, so that no request pays for faults.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "cache/mapping.h"
#include "device/weight_gate.h"
#include "load/plan.h"
#include "load/resident.h"

namespace cenote::load {

class MappedGate final : public device::WeightGate {
 public:
  // All borrowed. `blocks` and `extents` in the revision's order.
  MappedGate(const Digest& revision, cache::CacheView& view, const cache::Mapping& mapping, std::span<const BlockEntry> blocks,
             std::vector<CacheExtent> extents, std::vector<Group> groups, WantCallback want);
  ~MappedGate() override;

  bool complete() const override { return arrived_.load(std::memory_order_acquire); }
  absl::Status wait(device::ByteRange range, Instant deadline) override;
  absl::Status wait_rows(device::ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant deadline) override;
  bool transferring() const override { return !complete(); }

  bool populated() const { return populated_.load(std::memory_order_acquire); }
  absl::Status wait_populated(Instant deadline);

 private:
  absl::Status wait_group(size_t group, Instant deadline);
  void populate();

  const Digest revision_;
  cache::CacheView& view_;
  const cache::Mapping& mapping_;
  const std::span<const BlockEntry> blocks_;
  const std::vector<CacheExtent> extents_;
  const std::vector<Group> groups_;
  const WantCallback want_;
  std::unique_ptr<std::atomic<bool>[]> open_;  // Per group: all of it has arrived.
  std::atomic<bool> arrived_{false};
  std::atomic<bool> populated_{false};
  std::atomic<bool> stop_{false};
  std::thread populator_;
};

}  // namespace cenote::load
