// Goal: a footer is believed only if every word of it can be, whatever bytes are there and however well they are summed.
// Input: a footer's bytes, taken as they are and again with magic and sum made right; the file's length follows in its last four bytes.
#include <array>
#include <cstdint>
#include <cstring>

#include "base/hash.h"
#include "base/status.h"
#include "disk/block_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  constexpr size_t kSummed = 56;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto as_it_is = disk::read_footer(bytes, size);
  CENOTE_CHECK(as_it_is.ok() || as_it_is.status().code() == absl::StatusCode::kDataLoss);
  if (size < kSummed + 4) return 0;

  std::array<std::byte, 64> footer{};
  std::memcpy(footer.data(), "CENOTEBF", 8);
  std::memcpy(footer.data() + 8, data + 8, kSummed - 8);
  const uint64_t sum = xxh3_64(std::span(footer).first(kSummed));
  std::memcpy(footer.data() + kSummed, &sum, sizeof sum);
  uint32_t format, block_bytes, file_bytes;
  std::memcpy(&format, data + 8, 4);
  std::memcpy(&block_bytes, data + 12, 4);
  std::memcpy(&file_bytes, data + size - 4, 4);
  for (const uint64_t all : {uint64_t{file_bytes}, block_bytes <= kBlockBytesMax ? disk::file_bytes(block_bytes) : uint64_t{block_bytes}}) {
    const auto block = disk::read_footer(footer, all);
    const bool right = format == 1 && block_bytes > 0 && block_bytes <= kBlockBytesMax && all == disk::file_bytes(block_bytes);
    CENOTE_CHECK(block.ok() == right);
    if (block.ok()) CENOTE_CHECK(block->size_bytes == block_bytes && std::memcmp(block->id.bytes.data(), data + 16, 32) == 0);
  }
  return 0;
}
