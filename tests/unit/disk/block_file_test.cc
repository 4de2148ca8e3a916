// Goal: the format of a block's file is frozen, and every damaged byte of footer or payload is noticed.
// Method: a file is made in memory and compared with what format 1 says; then each of its meaningful bytes is changed.
#include "disk/block_file.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "disk/blocks_of_bytes.h"

namespace cenote::disk {
namespace {

std::string file_of(const std::string& bytes) {
  const BlockRef block = block_of(bytes);
  std::string file = bytes;
  file.resize(file_bytes(block.size_bytes), 'x');
  finish_file(block, std::as_writable_bytes(std::span(file)));
  return file;
}

std::span<const std::byte> footer_of(const std::string& file) { return as_bytes(std::string_view(file).substr(file.size() - kFooterBytes)); }

TEST(BlockFileTest, format_1_is_as_it_is_written_down) {
  const std::string file = file_of("abc");
  ASSERT_EQ(file.size(), 2 * kPageBytes);
  EXPECT_EQ(file.substr(0, 4), std::string("abc\0", 4));
  EXPECT_EQ(file.substr(kPageBytes, 8), "CENOTEBF");
  EXPECT_EQ(file.substr(kPageBytes + 8, 8), std::string("\1\0\0\0\3\0\0\0", 8));
  EXPECT_EQ(file.substr(kPageBytes + 16, 4), "\xba\x78\x16\xbf");  // SHA-256 of "abc" (FIPS 180-4).
  EXPECT_EQ(sha256(as_bytes(file)).short_hex(), "010e9660442f");
}

TEST(BlockFileTest, every_changed_byte_of_the_footer_is_noticed) {
  const std::string file = file_of(some_bytes(1, 5000));
  ASSERT_TRUE(read_footer(footer_of(file), file.size()).ok());
  for (size_t i = 0; i < 64; ++i) {
    std::string changed = file;
    changed[file.size() - kFooterBytes + i] ^= 1;
    EXPECT_EQ(read_footer(footer_of(changed), file.size()).status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST(BlockFileTest, a_file_of_another_length_than_the_footer_says_is_damaged) {
  const std::string file = file_of(some_bytes(1, 5000));
  EXPECT_EQ(read_footer(footer_of(file), file.size() + kPageBytes).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read_footer(footer_of(file).first(40), file.size()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(BlockFileTest, the_payloads_sum_covers_the_padding_too) {
  const std::string file = file_of(some_bytes(1, 5000));
  for (const size_t i : {size_t{0}, size_t{4999}, size_t{5000}, size_t{2 * kPageBytes - 1}}) {
    std::string changed = file;
    EXPECT_TRUE(sum_matches(footer_of(file), as_bytes(std::string_view(changed).substr(0, 2 * kPageBytes))));
    changed[i] ^= 1;
    EXPECT_FALSE(sum_matches(footer_of(file), as_bytes(std::string_view(changed).substr(0, 2 * kPageBytes)))) << i;
  }
}

}  // namespace
}  // namespace cenote::disk
