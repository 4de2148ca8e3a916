// load/plan.h - pure decisions of the load path: groups, and how a block is cut into reads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/units.h"
#include "catalog/manifest.h"
#include "message/link.h"

namespace cenote::load {

// Settings load.group: "layer", a size, or "model".
struct GroupRule {
  enum class Kind : uint8_t { kLayer, kBytes, kModel };
  Kind kind = Kind::kBytes;
  uint64_t bytes = 8 * kMiB;  // With kBytes. A block larger than this is a group of its own.
};

// Blocks [first, last) and the bytes [begin, end) of the range that they fill.
struct Group {
  uint32_t first = 0;
  uint32_t last = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
  bool operator==(const Group&) const = default;
};

// Cuts the blocks into consecutive groups: every block in exactly one, in order. kLayer: a group ends where the innermost module
// that owns the next block's first tensor changes (blocks begin with layers, design section 5); needs manifest.tensors.
std::vector<Group> plan_groups(const Manifest& manifest, const GroupRule& rule);

// The group that holds byte `offset` of the range. CENOTE_CHECKs that there is one.
size_t group_at(std::span<const Group> groups, uint64_t offset);

inline constexpr uint32_t kChunksPerBlockMax = kBlockBytesMax / kChunkBytes;
static_assert(kChunksPerBlockMax == 16, "cache/format.h keeps a bit per chunk in the low half of a word");

constexpr uint32_t chunks_of(uint32_t size_bytes) { return static_cast<uint32_t>((size_bytes + kChunkBytes - 1) / kChunkBytes); }
constexpr uint32_t all_chunks(uint32_t size_bytes) { return (1u << chunks_of(size_bytes)) - 1; }

// Chunks [first, first + count) of a block.
struct ChunkRun {
  uint32_t first = 0;
  uint32_t count = 0;
  uint32_t mask() const { return ((1u << count) - 1) << first; }
  uint64_t offset_bytes() const { return first * kChunkBytes; }
  uint64_t size_bytes(uint32_t block_bytes) const;
  bool operator==(const ChunkRun&) const = default;
};

// The next read of a block: the longest run, at most `read_bytes` long (whole chunks, at least one), that starts at the first
// chunk of `wanted & open`, or of `open` if none is wanted, and stays in the same set. Empty: `open` is 0.
std::optional<ChunkRun> next_read(uint32_t open, uint32_t wanted, uint64_t read_bytes);

// The chunks of each block that hold the rows of a table: row r is [begin + r x row_bytes, + row_bytes) of the range. Sorted by
// block, each once. kInvalidArgument: a row outside [begin, end).
absl::StatusOr<std::vector<WantedChunks>> chunks_of_rows(std::span<const BlockEntry> blocks, uint64_t begin, uint64_t end,
                                                         uint64_t row_bytes, std::span<const int64_t> rows);

// The same for one run of bytes.
std::vector<WantedChunks> chunks_of_bytes(std::span<const BlockEntry> blocks, uint64_t begin, uint64_t end);

}  // namespace cenote::load
