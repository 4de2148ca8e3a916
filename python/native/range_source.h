// native/range_source.h - an object of the pool whose bytes lie scattered in host memory: tensors in order, zeros between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/layout.h"
#include "catalog/manifest.h"

namespace cenote::native {

struct Piece {
  uint64_t offset_bytes = 0;
  std::span<const std::byte> bytes;  // Borrowed.
};

// Immutable; any thread may read.
class RangeSource {
 public:
  // kInvalidArgument: pieces overlap or reach beyond size_bytes. Any order.
  static absl::StatusOr<RangeSource> make(uint64_t size_bytes, std::vector<Piece> pieces);
  RangeSource() = default;

  uint64_t size_bytes() const { return size_bytes_; }
  // Fills `target` with the bytes at `offset_bytes`; what lies between pieces is zero. The range must lie inside.
  void read(uint64_t offset_bytes, std::span<std::byte> target) const;

 private:
  uint64_t size_bytes_ = 0;
  std::vector<Piece> pieces_;  // Sorted, none empty.
};

// Called now and then from the calling thread with the bytes done so far; false stops the work (kCancelled).
using Progress = std::function<bool(uint64_t done_bytes)>;

// SHA-256 and chunk sums of each block, by `threads` threads (0: all cores).
absl::StatusOr<std::vector<BlockEntry>> hash_blocks(const RangeSource& source, std::span<const BlockSpan> blocks, int threads,
                                                    const Progress& progress);

}  // namespace cenote::native
