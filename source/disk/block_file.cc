#include "disk/block_file.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/status.h"

namespace cenote::disk {
namespace {

constexpr std::string_view kMagic = "CENOTEBF";
constexpr uint32_t kFormat = 1;
constexpr size_t kSummedBytes = 8 + 4 + 4 + 32 + 8;
constexpr size_t kPayloadSumAt = 8 + 4 + 4 + 32;

std::string_view text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

void finish_file(const BlockRef& block, std::span<std::byte> file) {
  const uint64_t payload = payload_bytes(block.size_bytes);
  CENOTE_CHECK(block.size_bytes > 0 && block.size_bytes <= kBlockBytesMax && file.size() == payload + kFooterBytes);
  std::fill(file.begin() + block.size_bytes, file.end(), std::byte{0});
  ByteWriter footer;
  footer.raw(kMagic.data(), kMagic.size());
  footer.u32(kFormat);
  footer.u32(block.size_bytes);
  footer.raw(block.id.bytes.data(), block.id.bytes.size());
  footer.u64(xxh3_64(file.first(payload)));
  CENOTE_CHECK(footer.size() == kSummedBytes);
  std::string bytes = footer.take();
  ByteWriter sum;
  sum.u64(xxh3_64(as_bytes(bytes)));
  bytes += sum.take();
  std::memcpy(file.data() + payload, bytes.data(), bytes.size());
}

absl::StatusOr<BlockRef> read_footer(std::span<const std::byte> footer, uint64_t all_bytes) {
  if (footer.size() < kSummedBytes + 8) return absl::DataLossError(str_cat(all_bytes, " bytes: too short for a footer"));
  ByteReader reader(text_of(footer));
  std::array<char, 8> magic;
  reader.raw(magic.data(), magic.size());
  if (std::string_view(magic.data(), magic.size()) != kMagic) return absl::DataLossError("no footer at its end");
  const uint32_t format = reader.u32();
  BlockRef block{.id = {}, .size_bytes = reader.u32()};
  reader.raw(block.id.bytes.data(), block.id.bytes.size());
  (void)reader.u64();
  if (reader.u64() != xxh3_64(footer.first(kSummedBytes))) return absl::DataLossError("the footer does not match its sum");
  if (format != kFormat) return absl::DataLossError(str_cat("format ", format, ", this version reads ", kFormat));
  if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || all_bytes != file_bytes(block.size_bytes)) {
    return absl::DataLossError(str_cat("the footer says ", block.size_bytes, " bytes, the file has ", all_bytes));
  }
  return block;
}

bool sum_matches(std::span<const std::byte> footer, std::span<const std::byte> payload) {
  if (footer.size() < kSummedBytes) return false;
  ByteReader reader(text_of(footer.subspan(kPayloadSumAt, 8)));
  return reader.u64() == xxh3_64(payload);
}

}  // namespace cenote::disk
