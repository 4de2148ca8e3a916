// Goal: groups cover every block once in order, reads cover every open chunk once, rows name exactly the chunks that hold them.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/rng.h"
#include "load/plan.h"

namespace cenote::load {
namespace {

Manifest manifest_of(const std::vector<uint32_t>& sizes) {
  Manifest manifest;
  uint64_t offset = 0;
  for (const uint32_t size : sizes) {
    manifest.blocks.push_back({.ref = {.size_bytes = size}, .offset_bytes = offset});
    offset += round_up(size, kBlockAlignBytes);
  }
  return manifest;
}

RC_GTEST_PROP(PlanGroups, every_block_lies_in_exactly_one_group_in_order, ()) {
  const auto sizes = *rc::gen::container<std::vector<uint32_t>>(rc::gen::inRange<uint32_t>(1, kBlockBytesMax + 1));
  const Manifest manifest = manifest_of(sizes);
  const auto kind = *rc::gen::element(GroupRule::Kind::kBytes, GroupRule::Kind::kModel, GroupRule::Kind::kLayer);
  const GroupRule rule{.kind = kind, .bytes = *rc::gen::inRange<uint64_t>(1, 32 * kMiB)};
  const auto groups = plan_groups(manifest, rule);
  uint32_t block = 0;
  uint64_t offset = 0;
  for (const Group& group : groups) {
    RC_ASSERT(group.first == block && group.last > group.first && group.begin == offset);
    for (; block < group.last; ++block) offset += round_up(sizes[block], kBlockAlignBytes);
    RC_ASSERT(group.end == offset);
    if (kind == GroupRule::Kind::kBytes && group.last > group.first + 1) RC_ASSERT(group.end - group.begin <= rule.bytes);
    RC_ASSERT(group_at(groups, group.begin) == group_at(groups, group.end - 1));
  }
  RC_ASSERT(block == sizes.size());
  if (kind == GroupRule::Kind::kModel) RC_ASSERT(groups.size() == (sizes.empty() ? 0u : 1u));
}

TEST(PlanGroups, a_layer_is_the_innermost_module_that_owns_the_tensors) {
  Manifest manifest = manifest_of({8192, 4096, 4 << 20, 1 << 20, 4096});
  const auto tensor = [&](const char* name, uint64_t offset) {
    TensorEntry entry;
    entry.name = name;
    entry.offset_bytes = offset;
    manifest.tensors.push_back(entry);
  };
  tensor("conv1.weight", 0);
  tensor("bn1.weight", 8192);
  tensor("bn1.bias", 8192 + 512);
  tensor("layer.fc.weight", 12288);  // Spans two blocks.
  tensor("layer.fc.bias", 12288 + (5 << 20));
  const auto groups = plan_groups(manifest, {.kind = GroupRule::Kind::kLayer});
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0], (Group{0, 1, 0, 8192}));
  EXPECT_EQ(groups[1], (Group{1, 2, 8192, 12288}));
  EXPECT_EQ(groups[2].first, 2u);
  EXPECT_EQ(groups[2].last, 5u);
}

RC_GTEST_PROP(NextRead, reads_take_each_open_chunk_once_and_wanted_ones_first, ()) {
  uint32_t open = *rc::gen::inRange<uint32_t>(0, 1 << 16);
  const uint32_t wanted = *rc::gen::inRange<uint32_t>(0, 1 << 16);
  const uint64_t read_bytes = kChunkBytes * *rc::gen::inRange<uint64_t>(1, 17);
  const uint32_t all = open;
  uint32_t taken = 0;
  while (const auto run = next_read(open, wanted, read_bytes)) {
    RC_ASSERT((run->mask() & ~open) == 0u);
    RC_ASSERT((taken & run->mask()) == 0u);
    RC_ASSERT(run->count * kChunkBytes <= read_bytes);
    if (open & wanted) RC_ASSERT((run->mask() & ~wanted) == 0u);
    taken |= run->mask();
    open &= ~run->mask();
  }
  RC_ASSERT(taken == all);
}

RC_GTEST_PROP(ChunksOfRows, the_chunks_are_exactly_those_that_hold_a_byte_of_a_row, ()) {
  const auto sizes = *rc::gen::resize(12, rc::gen::nonEmpty(rc::gen::container<std::vector<uint32_t>>(
                                              rc::gen::map(rc::gen::inRange<uint32_t>(1, 8), [](uint32_t n) {
                                                return n * static_cast<uint32_t>(kChunkBytes / 2);
                                              }))));
  const Manifest manifest = manifest_of(sizes);
  const uint64_t end = manifest.blocks.back().offset_bytes + sizes.back();
  const uint64_t begin = *rc::gen::inRange<uint64_t>(0, end);
  const uint64_t row_bytes = *rc::gen::inRange<uint64_t>(1, end - begin + 1);
  const auto count = static_cast<int64_t>((end - begin) / row_bytes);
  const auto rows = *rc::gen::resize(6, rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, count)));
  const auto chunks = chunks_of_rows(manifest.blocks, begin, end, row_bytes, rows);
  RC_ASSERT(chunks.ok());
  std::vector<uint32_t> masks(sizes.size());
  for (const WantedChunks& some : *chunks) {
    RC_ASSERT(masks[some.block] == 0u);  // Each block once.
    masks[some.block] = some.chunks;
  }
  std::vector<uint32_t> expected(sizes.size());
  for (size_t b = 0; b < sizes.size(); ++b) {
    for (uint32_t c = 0; c < chunks_of(sizes[b]); ++c) {
      const uint64_t from = manifest.blocks[b].offset_bytes + c * kChunkBytes;
      const uint64_t to = std::min<uint64_t>(from + kChunkBytes, manifest.blocks[b].offset_bytes + sizes[b]);
      for (const int64_t row : rows) {
        const uint64_t row_begin = begin + static_cast<uint64_t>(row) * row_bytes;
        if (row_begin < to && from < row_begin + row_bytes) expected[b] |= 1u << c;
      }
    }
  }
  RC_ASSERT(masks == expected);
}

TEST(ChunksOfRows, rows_outside_the_table_are_refused) {
  const Manifest manifest = manifest_of({4096});
  EXPECT_FALSE(chunks_of_rows(manifest.blocks, 0, 4096, 1024, std::vector<int64_t>{4}).ok());
  EXPECT_FALSE(chunks_of_rows(manifest.blocks, 0, 4096, 1024, std::vector<int64_t>{-1}).ok());
  EXPECT_FALSE(chunks_of_rows(manifest.blocks, 0, 4096, 0, std::vector<int64_t>{0}).ok());
}

}  // namespace
}  // namespace cenote::load
