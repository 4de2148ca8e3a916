// Goal: an object that lies scattered in memory reads and hashes as if it lay in one piece.
#include "range_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/hash.h"

namespace cenote::native {
namespace {

std::vector<std::byte> counting(size_t size, uint8_t first) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(first + i % 13);
  return bytes;
}

TEST(RangeSource, any_range_equals_the_same_range_of_the_whole) {
  const auto a = counting(700, 1), b = counting(1, 90), c = counting(300, 40);
  std::vector<std::byte> whole(2048);
  std::copy(a.begin(), a.end(), whole.begin() + 512);
  std::copy(b.begin(), b.end(), whole.begin() + 1300);
  std::copy(c.begin(), c.end(), whole.begin() + 1748);
  const auto source = RangeSource::make(2048, {{1748, c}, {512, a}, {1300, b}});
  ASSERT_TRUE(source.ok()) << source.status();
  for (size_t begin = 0; begin < whole.size(); begin += 37) {
    for (const size_t length : {size_t{0}, size_t{1}, size_t{64}, size_t{900}, whole.size() - begin}) {
      if (begin + length > whole.size()) continue;
      std::vector<std::byte> read(length, std::byte{0xee});
      source->read(begin, read);
      ASSERT_TRUE(std::equal(read.begin(), read.end(), whole.begin() + begin)) << begin << " " << length;
    }
  }
}

TEST(RangeSource, overlapping_and_overreaching_pieces_are_refused) {
  const auto bytes = counting(100, 1);
  EXPECT_EQ(RangeSource::make(1000, {{0, bytes}, {99, bytes}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RangeSource::make(150, {{51, bytes}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RangeSource::make(150, {{~0ull - 10, bytes}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(RangeSource::make(150, {{50, bytes}}).ok());
}

TEST(HashBlocks, entries_are_in_order_and_equal_those_of_one_thread) {
  const auto bytes = counting(40 * 4096, 7);
  const auto source = RangeSource::make(bytes.size(), {{0, bytes}});
  ASSERT_TRUE(source.ok());
  std::vector<BlockSpan> spans;
  for (uint64_t at = 0; at < bytes.size(); at += 3 * 4096) spans.push_back({at, std::min<uint64_t>(3 * 4096, bytes.size() - at)});
  uint64_t reported = 0;
  const auto entries = hash_blocks(*source, spans, 3, [&](uint64_t done) {
    reported = done;
    return true;
  });
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(reported, bytes.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    const std::span<const std::byte> block(bytes.data() + spans[i].offset_bytes, spans[i].size_bytes);
    EXPECT_EQ((*entries)[i].ref.id, sha256(block));
    EXPECT_THAT((*entries)[i].chunk_sums, testing::ElementsAre(xxh3_64(block)));
  }
}

TEST(HashBlocks, ends_when_progress_says_so) {
  const auto bytes = counting(64 * kMiB, 7);
  const auto source = RangeSource::make(bytes.size(), {{0, bytes}});
  ASSERT_TRUE(source.ok());
  std::vector<BlockSpan> spans;
  for (uint64_t at = 0; at < bytes.size(); at += kBlockBytesMax) spans.push_back({at, kBlockBytesMax});
  const auto entries = hash_blocks(*source, spans, 1, [](uint64_t) { return false; });
  EXPECT_EQ(entries.status().code(), absl::StatusCode::kCancelled);
}

TEST(HashBlocks, spans_outside_the_object_are_refused) {
  const auto source = RangeSource::make(4096, {});
  ASSERT_TRUE(source.ok());
  for (const BlockSpan& span : {BlockSpan{4096, 1}, BlockSpan{0, 8192}, BlockSpan{0, 0}, BlockSpan{~0ull, 4096}}) {
    EXPECT_EQ(hash_blocks(*source, std::vector{span}, 1, nullptr).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace cenote::native
