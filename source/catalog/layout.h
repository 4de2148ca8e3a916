// catalog/layout.h - where each tensor of a model lies in the revision's range, and where blocks begin
// (design section 5). Pure: equal input gives equal output on every machine, so equal models share blocks.
//
// Storages in order of first use, tables that are first looked up last; each 512-byte aligned; a tied tensor
// has its partner's place. A block starts at each layer, at each tensor of 1 MiB or more, at each table,
// and where a tensor would not fit into the block; only tensors of 1 MiB or more span blocks. Blocks are
// padded to 4 KiB with zeros and hold at most 4 MiB. Bytes of the range that no tensor covers are zero.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/units.h"
#include "catalog/manifest.h"

namespace cenote {

inline constexpr uint64_t kBlockStartTensorBytes = kMiB;  // A tensor this large starts a block.

// One tensor of a model, in order of first use.
struct LayoutTensor {
  std::string name;
  TensorKind kind = TensorKind::kParameter;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string layer;         // The innermost module that owns it.
  bool gather_only = false;  // As in TensorEntry: laid out last.
  bool mutated = false;
  std::string tied_to;  // Another tensor's name, not tied itself, with the same bytes; empty: none.
};

struct BlockSpan {
  uint64_t offset_bytes = 0;  // In the range; a multiple of 4 KiB.
  uint64_t size_bytes = 0;    // A multiple of 4 KiB, at most 4 MiB.
  auto operator<=>(const BlockSpan&) const = default;
};

struct Layout {
  std::vector<TensorEntry> tensors;  // In the order given.
  std::vector<BlockSpan> blocks;     // Cover the range without gaps.
  uint64_t range_bytes = 0;
};

// kInvalidArgument: a name given twice, a tie to nothing or of another size, a shape that overflows, more
// than kTensorsMax tensors or kRangeBytesMax bytes.
absl::StatusOr<Layout> lay_out(std::span<const LayoutTensor> tensors);

}  // namespace cenote
