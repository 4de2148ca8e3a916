// memory/extents.h - pure offset arithmetic over [0, size): which runs are taken. Best fit, and of equal fits the lowest offset, so
// that long runs stay whole. No memory is touched: fuzzable, and the same for host, tmpfs and device arenas.
//
// Thread-compatible. O(log runs) per call.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace cenote::memory {

struct Extent {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  auto operator<=>(const Extent&) const = default;
  uint64_t end_bytes() const { return offset_bytes + size_bytes; }
};

class Extents {
 public:
  // `size_bytes` is rounded down to a multiple of `align_bytes` (> 0).
  Extents(uint64_t size_bytes, uint64_t align_bytes);

  // A run of at least `size_bytes` (> 0), rounded up to the alignment. Empty: no run is long enough.
  std::optional<Extent> take(uint64_t size_bytes);
  // Checks that exactly this extent was taken.
  void give(Extent extent);
  // Makes two of a taken extent, to be given back one by one: the first `first_bytes` (a multiple of the alignment, less than all),
  // which is returned, and the rest. So that what belongs together can lie together.
  Extent split(Extent taken, uint64_t first_bytes);

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t taken_bytes() const { return taken_bytes_; }
  uint64_t free_bytes() const { return size_bytes_ - taken_bytes_; }
  uint64_t largest_free_bytes() const { return by_size_.empty() ? 0 : by_size_.rbegin()->first; }
  const std::map<uint64_t, uint64_t>& taken() const { return taken_; }  // Offset -> bytes.

 private:
  void add_free(uint64_t offset, uint64_t size);
  void remove_free(uint64_t offset, uint64_t size);

  uint64_t align_bytes_;
  uint64_t size_bytes_;
  uint64_t taken_bytes_ = 0;
  std::map<uint64_t, uint64_t> free_;                 // Offset -> bytes; neighbours are always merged.
  std::set<std::pair<uint64_t, uint64_t>> by_size_;   // (bytes, offset) of the same runs.
  std::map<uint64_t, uint64_t> taken_;
};

}  // namespace cenote::memory
