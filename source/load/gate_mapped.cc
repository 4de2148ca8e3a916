#include "load/gate_mapped.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::load {

MappedGate::MappedGate(const Digest& revision, cache::CacheView& view, const cache::Mapping& mapping,
                       std::span<const BlockEntry> blocks, std::vector<CacheExtent> extents, std::vector<Group> groups,
                       WantCallback want)
    : revision_(revision),
      view_(view),
      mapping_(mapping),
      blocks_(blocks),
      extents_(std::move(extents)),
      groups_(std::move(groups)),
      want_(std::move(want)),
      open_(new std::atomic<bool>[groups_.size() + 1]()) {
  arrived_ = std::all_of(extents_.begin(), extents_.end(), [&](const CacheExtent& extent) { return view_.arrived(extent); });
  if (arrived_) {
    for (size_t i = 0; i < groups_.size(); ++i) open_[i] = true;
  }
  populator_ = std::thread([this] { populate(); });
}

MappedGate::~MappedGate() {
  stop_ = true;
  populator_.join();  // No deadline: told to stop, it waits for no more blocks.
}

absl::Status MappedGate::wait(device::ByteRange range, Instant deadline) {
  if (complete() || range.begin >= range.end) return absl::OkStatus();
  CENOTE_CHECK(!groups_.empty() && range.end <= groups_.back().end);
  const size_t last = group_at(groups_, range.end - 1);
  for (size_t group = group_at(groups_, range.begin); group <= last; ++group) {
    if (!open_[group].load(std::memory_order_acquire)) CENOTE_RETURN_IF_ERROR(wait_group(group, deadline));
  }
  return absl::OkStatus();
}

absl::Status MappedGate::wait_group(size_t group, Instant deadline) {
  // From the last block to the first: blocks arrive in order, so this sleeps once per group, not once per block.
  for (uint32_t i = groups_[group].last; i > groups_[group].first; --i) {
    const CacheExtent& extent = extents_[i - 1];
    if (view_.arrived(extent)) continue;
    CENOTE_RETURN_IF_ERROR(view_.wait(extent, all_chunks(extent.size_bytes), deadline));
  }
  open_[group].store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status MappedGate::wait_rows(device::ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant deadline) {
  if (complete()) return absl::OkStatus();
  CENOTE_ASSIGN_OR_RETURN(auto chunks, chunks_of_rows(blocks_, table.begin, table.end, row_bytes, rows));
  std::erase_if(chunks, [&](const WantedChunks& some) {
    return (view_.word(extents_[some.block].word) & some.chunks) == some.chunks;
  });
  if (chunks.empty()) return absl::OkStatus();
  if (want_) want_({.revision = revision_, .chunks = chunks});
  for (const WantedChunks& some : chunks) CENOTE_RETURN_IF_ERROR(view_.wait(extents_[some.block], some.chunks, deadline));
  return absl::OkStatus();
}

void MappedGate::populate() {
  for (size_t group = 0; group < groups_.size(); ++group) {
    while (!open_[group].load(std::memory_order_acquire)) {
      if (stop_) return;
      // Short waits, so that the destructor need not wait long; failures may heal when the fetch is tried again.
      const Instant soon = monotonic_now() + cache::CacheView::kLivenessInterval;
      const absl::Status status = wait_group(group, soon);
      if (!status.ok() && status.code() != absl::StatusCode::kDeadlineExceeded) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(cache::CacheView::kLivenessInterval.ns));
      }
    }
    if (stop_) return;
    if (group + 1 == groups_.size()) arrived_.store(true, std::memory_order_release);
    mapping_.populate(groups_[group].begin, groups_[group].end);
  }
  arrived_.store(true, std::memory_order_release);  // No groups at all.
  populated_.store(true, std::memory_order_release);
  populated_.notify_all();
}

absl::Status MappedGate::wait_populated(Instant deadline) {
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (!open_[group].load(std::memory_order_acquire)) CENOTE_RETURN_IF_ERROR(wait_group(group, deadline));
  }
  // No deadline: what is left is populating memory that is there, milliseconds; no peer is involved.
  populated_.wait(false, std::memory_order_acquire);
  return absl::OkStatus();
}

}  // namespace cenote::load
