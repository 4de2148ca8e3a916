#include "load/plan.h"

#include <algorithm>
#include <bit>

#include "base/status.h"

namespace cenote::load {
namespace {

uint64_t padded(const BlockEntry& block) { return round_up(block.ref.size_bytes, kBlockAlignBytes); }

std::string_view owner_of(const TensorEntry& tensor) {
  const std::string_view name = tensor.name;
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

// Offsets of the range at which another module's tensors begin.
std::vector<uint64_t> layer_starts(const Manifest& manifest) {
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& tensor : manifest.tensors) tensors.push_back(&tensor);
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const TensorEntry* a, const TensorEntry* b) { return a->offset_bytes < b->offset_bytes; });
  std::vector<uint64_t> starts;
  std::string_view owner;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i == 0 || owner_of(*tensors[i]) != owner) starts.push_back(tensors[i]->offset_bytes);
    owner = owner_of(*tensors[i]);
  }
  return starts;
}

}  // namespace

uint64_t ChunkRun::size_bytes(uint32_t block_bytes) const {
  const uint64_t end = std::min<uint64_t>(block_bytes, (first + count) * kChunkBytes);
  CENOTE_CHECK(end > offset_bytes());
  return end - offset_bytes();
}

std::vector<Group> plan_groups(const Manifest& manifest, const GroupRule& rule) {
  std::vector<uint64_t> starts;
  if (rule.kind == GroupRule::Kind::kLayer) starts = layer_starts(manifest);
  std::vector<Group> groups;
  for (uint32_t i = 0; i < manifest.blocks.size(); ++i) {
    const BlockEntry& block = manifest.blocks[i];
    const uint64_t end = block.offset_bytes + padded(block);
    bool cut = groups.empty();
    if (!cut && rule.kind == GroupRule::Kind::kBytes) cut = end - groups.back().begin > rule.bytes;
    if (!cut && rule.kind == GroupRule::Kind::kLayer) {
      cut = std::binary_search(starts.begin(), starts.end(), block.offset_bytes);
    }
    if (cut) groups.push_back({.first = i, .last = i, .begin = block.offset_bytes, .end = block.offset_bytes});
    groups.back().last = i + 1;
    groups.back().end = end;
  }
  return groups;
}

size_t group_at(std::span<const Group> groups, uint64_t offset) {
  const auto after = std::upper_bound(groups.begin(), groups.end(), offset,
                                      [](uint64_t value, const Group& group) { return value < group.begin; });
  CENOTE_CHECK(after != groups.begin() && offset < std::prev(after)->end);
  return static_cast<size_t>(std::prev(after) - groups.begin());
}

std::optional<ChunkRun> next_read(uint32_t open, uint32_t wanted, uint64_t read_bytes) {
  const uint32_t from = (open & wanted) != 0 ? open & wanted : open;
  if (from == 0) return std::nullopt;
  const auto first = static_cast<uint32_t>(std::countr_zero(from));
  const auto limit = static_cast<uint32_t>(std::max<uint64_t>(1, read_bytes / kChunkBytes));
  const auto run = static_cast<uint32_t>(std::countr_one(from >> first));
  return ChunkRun{first, std::min(run, limit)};
}

std::vector<WantedChunks> chunks_of_bytes(std::span<const BlockEntry> blocks, uint64_t begin, uint64_t end) {
  std::vector<WantedChunks> chunks;
  auto block = std::upper_bound(blocks.begin(), blocks.end(), begin,
                                [](uint64_t value, const BlockEntry& entry) { return value < entry.offset_bytes; });
  if (block != blocks.begin()) --block;
  for (; block != blocks.end() && block->offset_bytes < end; ++block) {
    const uint64_t block_end = block->offset_bytes + block->ref.size_bytes;
    if (begin >= block_end) continue;
    const uint64_t from = std::max(begin, block->offset_bytes) - block->offset_bytes;
    const uint64_t to = std::min(end, block_end) - block->offset_bytes;
    if (from >= to) continue;
    const auto first = static_cast<uint32_t>(from / kChunkBytes);
    const auto last = static_cast<uint32_t>((to - 1) / kChunkBytes);
    chunks.push_back({.block = static_cast<uint32_t>(block - blocks.begin()), .chunks = ChunkRun{first, last - first + 1}.mask()});
  }
  return chunks;
}

absl::StatusOr<std::vector<WantedChunks>> chunks_of_rows(std::span<const BlockEntry> blocks, uint64_t begin, uint64_t end,
                                                         uint64_t row_bytes, std::span<const int64_t> rows) {
  if (row_bytes == 0 || begin > end) return absl::InvalidArgumentError("a table without rows");
  const uint64_t count = (end - begin) / row_bytes;
  std::vector<WantedChunks> all;
  std::vector<int64_t> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (const int64_t row : sorted) {
    if (row < 0 || static_cast<uint64_t>(row) >= count) {
      return absl::InvalidArgumentError(str_cat("row ", row, " of a table of ", count, " rows"));
    }
    const uint64_t from = begin + static_cast<uint64_t>(row) * row_bytes;
    for (const WantedChunks& some : chunks_of_bytes(blocks, from, from + row_bytes)) {
      if (!all.empty() && all.back().block == some.block) {
        all.back().chunks |= some.chunks;
      } else {
        all.push_back(some);
      }
    }
  }
  return all;
}

}  // namespace cenote::load
