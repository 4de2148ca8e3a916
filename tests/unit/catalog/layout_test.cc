// Goal: the layout follows the written rules, covers each byte once, and depends on nothing but its input.
#include "catalog/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

namespace cenote {
namespace {

using testing::HasSubstr;

LayoutTensor tensor(std::string name, int64_t bytes, std::string layer, bool gather_only = false,
                    std::string tied_to = "") {
  return {.name = std::move(name),
          .dtype = DType::kU8,
          .shape = {bytes},
          .layer = std::move(layer),
          .gather_only = gather_only,
          .tied_to = std::move(tied_to)};
}

std::vector<uint64_t> offsets(const Layout& layout) {
  std::vector<uint64_t> all;
  for (const TensorEntry& entry : layout.tensors) all.push_back(entry.offset_bytes);
  return all;
}

TEST(Layout, small_tensors_of_a_layer_share_a_block_and_a_layer_starts_one) {
  const auto layout =
      lay_out(std::vector{tensor("a.w", 100, "a"), tensor("a.b", 513, "a"), tensor("b.w", 10, "b")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(offsets(*layout), (std::vector<uint64_t>{0, 512, 4096}));
  EXPECT_EQ(layout->blocks, (std::vector<BlockSpan>{{0, 4096}, {4096, 4096}}));
  EXPECT_EQ(layout->range_bytes, 8192u);
}

TEST(Layout, a_tensor_of_one_mebibyte_starts_a_block_and_a_larger_one_spans_blocks) {
  const auto layout =
      lay_out(std::vector{tensor("s", 100, "a"), tensor("m", kMiB, "a"), tensor("n", kMiB - 1, "a"),
                          tensor("l", 9 * kMiB + 1, "a"), tensor("t", 5, "a")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(offsets(*layout),
            (std::vector<uint64_t>{0, 4096, 4096 + kMiB, 4096 + 2 * kMiB, 4096 + 11 * kMiB + 512}));
  EXPECT_EQ(layout->blocks, (std::vector<BlockSpan>{{0, 4096},
                                                    {4096, 2 * kMiB},
                                                    {4096 + 2 * kMiB, 4 * kMiB},
                                                    {4096 + 6 * kMiB, 4 * kMiB},
                                                    {4096 + 10 * kMiB, kMiB + 4096}}));
}

TEST(Layout, a_tensor_of_exactly_a_block_fills_it) {
  const auto layout = lay_out(std::vector{tensor("a", kBlockBytesMax, "x"), tensor("b", 1, "x")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->blocks, (std::vector<BlockSpan>{{0, kBlockBytesMax}, {kBlockBytesMax, 4096}}));
}

TEST(Layout, a_small_tensor_that_does_not_fit_starts_a_block) {
  std::vector<LayoutTensor> tensors;
  for (const char* name : {"a", "b", "c", "d", "e"}) tensors.push_back(tensor(name, 1000 << 10, "x"));
  const auto layout = lay_out(tensors);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->blocks, (std::vector<BlockSpan>{{0, 4000 << 10}, {4000 << 10, 1000 << 10}}));
}

TEST(Layout, tables_come_last_each_in_blocks_of_its_own) {
  const auto layout = lay_out(std::vector{tensor("words", 2 * kMiB, "e", true),
                                          tensor("places", 1000, "e", true), tensor("w", 100, "a")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(offsets(*layout), (std::vector<uint64_t>{4096, 4096 + 2 * kMiB, 0}));
  EXPECT_EQ(layout->blocks.size(), 3u);
  EXPECT_TRUE(layout->tensors[0].gather_only);
}

TEST(Layout, tied_tensors_are_stored_once_whichever_comes_first) {
  const auto layout = lay_out(std::vector{tensor("head", 4096, "h", false, "words"),
                                          tensor("words", 4096, "e", true), tensor("w", 1, "a")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(offsets(*layout), (std::vector<uint64_t>{4096, 4096, 0}));
  EXPECT_EQ(layout->range_bytes, 8192u);
}

TEST(Layout, empty_models_and_empty_tensors_have_a_place) {
  EXPECT_EQ(lay_out({})->range_bytes, 0u);
  const auto layout =
      lay_out(std::vector{tensor("none", 0, "a"), tensor("w", 3, "a"), tensor("end", 0, "b")});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->range_bytes, 4096u);
  for (const TensorEntry& entry : layout->tensors)
    EXPECT_LE(entry.offset_bytes + entry.size_bytes, layout->range_bytes);
}

TEST(Layout, what_cannot_be_laid_out_is_refused_by_name) {
  const auto message = [](std::vector<LayoutTensor> tensors) {
    return std::string(lay_out(tensors).status().message());
  };
  EXPECT_THAT(message({tensor("a", 1, "l"), tensor("a", 1, "l")}), HasSubstr("'a' is given twice"));
  EXPECT_THAT(message({tensor("a", 1, "l", false, "b")}), HasSubstr("'b', which is not another tensor"));
  EXPECT_THAT(message({tensor("a", 1, "l", false, "a")}), HasSubstr("not another tensor"));
  EXPECT_THAT(message({tensor("a", 1, "l", false, "b"), tensor("b", 2, "l")}),
              HasSubstr("tied to 'b' with 2"));
  EXPECT_THAT(
      message({tensor("a", 1, "l", false, "b"), tensor("b", 1, "l", false, "c"), tensor("c", 1, "l")}),
      HasSubstr("name 'c'"));
  EXPECT_THAT(message({tensor("a", -1, "l")}), HasSubstr("negative"));
  EXPECT_THAT(message({{.name = "a", .shape = {1ll << 40, 1ll << 40}, .layer = "l"}}), HasSubstr("2^63"));
  EXPECT_THAT(message({tensor("a", 1ll << 62, "l")}), HasSubstr("larger than"));
  EXPECT_THAT(message({tensor("a", 1ll << 45, "l"), tensor("b", 1ll << 45, "l")}),
              HasSubstr("need more than"));
  EXPECT_THAT(message(std::vector<LayoutTensor>(kTensorsMax + 1)), HasSubstr("at most 65536"));
}

rc::Gen<std::vector<LayoutTensor>> models() {
  return rc::gen::map(
      rc::gen::container<std::vector<std::tuple<int64_t, int, bool, int>>>(rc::gen::tuple(
          rc::gen::oneOf(rc::gen::inRange<int64_t>(0, 5000), rc::gen::inRange<int64_t>(0, 3 << 20),
                         rc::gen::inRange<int64_t>(4000000, 14000000)),
          rc::gen::inRange(0, 4), rc::gen::arbitrary<bool>(), rc::gen::inRange(0, 8))),
      [](const auto& rows) {
        std::vector<LayoutTensor> tensors;
        for (size_t i = 0; i < rows.size(); ++i) {
          const auto& [bytes, layer, gather, tie] = rows[i];
          LayoutTensor one = tensor("t" + std::to_string(i), bytes, std::to_string(layer), gather);
          if (tie == 0 && i > 0 && tensors[i - 1].tied_to.empty()) {
            one.tied_to = tensors[i - 1].name;
            one.shape = tensors[i - 1].shape;
          }
          tensors.push_back(std::move(one));
        }
        return tensors;
      });
}

RC_GTEST_PROP(LayoutProperty, every_byte_belongs_to_one_storage_at_most_and_blocks_cover_the_range, ()) {
  const std::vector<LayoutTensor> tensors = *models();
  const auto layout = lay_out(tensors);
  RC_ASSERT(layout.ok());
  uint64_t end = 0;
  for (const BlockSpan& block : layout->blocks) {
    RC_ASSERT(block.offset_bytes == end && block.size_bytes > 0 && block.size_bytes <= kBlockBytesMax &&
              block.size_bytes % kBlockAlignBytes == 0);
    end += block.size_bytes;
  }
  RC_ASSERT(end == layout->range_bytes);
  std::vector<std::pair<uint64_t, uint64_t>> storages;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorEntry& entry = layout->tensors[i];
    RC_ASSERT(entry.name == tensors[i].name && entry.offset_bytes % kTensorAlignBytes == 0);
    RC_ASSERT(entry.offset_bytes + entry.size_bytes <= end);
    if (tensors[i].tied_to.empty() && entry.size_bytes > 0)
      storages.emplace_back(entry.offset_bytes, entry.offset_bytes + entry.size_bytes);
    const auto starts = [&](uint64_t offset) {
      return std::any_of(layout->blocks.begin(), layout->blocks.end(),
                         [&](const BlockSpan& b) { return b.offset_bytes == offset; });
    };
    if (entry.size_bytes >= kBlockStartTensorBytes) RC_ASSERT(starts(entry.offset_bytes));
    // A small tensor lies in one block.
    if (entry.size_bytes > 0 && entry.size_bytes < kBlockStartTensorBytes) {
      RC_ASSERT(std::any_of(layout->blocks.begin(), layout->blocks.end(), [&](const BlockSpan& b) {
        return b.offset_bytes <= entry.offset_bytes &&
               entry.offset_bytes + entry.size_bytes <= b.offset_bytes + b.size_bytes;
      }));
    }
  }
  std::sort(storages.begin(), storages.end());
  for (size_t i = 1; i < storages.size(); ++i) RC_ASSERT(storages[i - 1].second <= storages[i].first);
}

RC_GTEST_PROP(LayoutProperty, order_is_first_use_with_tables_last, ()) {
  const std::vector<LayoutTensor> tensors = *models();
  const auto layout = lay_out(tensors);
  RC_ASSERT(layout.ok());
  for (const bool tables : {false, true}) {
    uint64_t last = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].gather_only != tables || !tensors[i].tied_to.empty() ||
          layout->tensors[i].size_bytes == 0)
        continue;
      RC_ASSERT(layout->tensors[i].offset_bytes >= last);
      last = layout->tensors[i].offset_bytes;
    }
  }
  const auto again = lay_out(tensors);
  RC_ASSERT(offsets(*again) == offsets(*layout) && again->blocks == layout->blocks);
}

}  // namespace
}  // namespace cenote
