#include "memory/extents.h"

#include "base/status.h"

namespace cenote::memory {

Extents::Extents(uint64_t size_bytes, uint64_t align_bytes) : align_bytes_(align_bytes) {
  CENOTE_CHECK(align_bytes > 0);
  size_bytes_ = size_bytes / align_bytes * align_bytes;
  if (size_bytes_ > 0) add_free(0, size_bytes_);
}

std::optional<Extent> Extents::take(uint64_t size_bytes) {
  CENOTE_CHECK(size_bytes > 0);
  if (size_bytes > size_bytes_) return std::nullopt;  // Also keeps the rounding below from overflowing.
  const uint64_t wanted = (size_bytes + align_bytes_ - 1) / align_bytes_ * align_bytes_;
  const auto fit = by_size_.lower_bound({wanted, 0});
  if (fit == by_size_.end()) return std::nullopt;
  const auto [run, offset] = *fit;
  remove_free(offset, run);
  if (run > wanted) add_free(offset + wanted, run - wanted);
  taken_.emplace(offset, wanted);
  taken_bytes_ += wanted;
  return Extent{offset, wanted};
}

void Extents::give(Extent extent) {
  const auto taken = taken_.find(extent.offset_bytes);
  CENOTE_CHECK(taken != taken_.end() && taken->second == extent.size_bytes);
  taken_.erase(taken);
  taken_bytes_ -= extent.size_bytes;

  uint64_t offset = extent.offset_bytes;
  uint64_t end = extent.end_bytes();
  const auto after = free_.lower_bound(offset);
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    CENOTE_CHECK(before->first + before->second <= offset);
    if (before->first + before->second == offset) {
      offset = before->first;
      remove_free(before->first, before->second);
    }
  }
  if (after != free_.end() && after->first == end) {
    end += after->second;
    remove_free(after->first, after->second);
  }
  add_free(offset, end - offset);
}

Extent Extents::split(Extent extent, uint64_t first_bytes) {
  const auto taken = taken_.find(extent.offset_bytes);
  CENOTE_CHECK(taken != taken_.end() && taken->second == extent.size_bytes);
  CENOTE_CHECK(first_bytes > 0 && first_bytes < extent.size_bytes && first_bytes % align_bytes_ == 0);
  taken->second = first_bytes;
  taken_.emplace(extent.offset_bytes + first_bytes, extent.size_bytes - first_bytes);
  return {extent.offset_bytes, first_bytes};
}

void Extents::add_free(uint64_t offset, uint64_t size) {
  free_.emplace(offset, size);
  by_size_.emplace(size, offset);
}

void Extents::remove_free(uint64_t offset, uint64_t size) {
  free_.erase(offset);
  by_size_.erase({size, offset});
}

}  // namespace cenote::memory
