// disk/block_file.h - one block in one file. Format 1, frozen:
//
//   payload, zeros up to a whole 4 KiB page, then one page of footer, little endian:
//   "CENOTEBF"  u32 format = 1  u32 size in bytes  32 B id  u64 XXH3-64 of the payload with its zeros  u64 XXH3-64 of the 56 B before
//   zeros to the page's end
//
// The footer comes last so that a file cut short has none, and is enough to know at start what a file holds without reading it. It proves
// nothing about the payload: that is what the id, its SHA-256, is for. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "base/units.h"
#include "disk/files.h"
#include "message/record.h"

namespace cenote::disk {

inline constexpr uint64_t kFooterBytes = kPageBytes;
static_assert(kBlockAlignBytes == kPageBytes, "a block's padding in the arena is its padding on disk: reads go straight there");

constexpr uint64_t payload_bytes(uint32_t block_bytes) { return round_up(block_bytes, kPageBytes); }
// What a block takes of `data_capacity`.
constexpr uint64_t file_bytes(uint32_t block_bytes) { return payload_bytes(block_bytes) + kFooterBytes; }
inline constexpr uint64_t kFileBytesMax = file_bytes(kBlockBytesMax);

// `file`: file_bytes(block.size_bytes), which begins with the block's bytes; the rest is written here.
void finish_file(const BlockRef& block, std::span<std::byte> file);
// kDataLoss says what is wrong: a magic, a sum, a size that cannot be, or a file of `all_bytes` that is not of that size.
absl::StatusOr<BlockRef> read_footer(std::span<const std::byte> footer, uint64_t all_bytes);
// Whether the payload, padded, is what the footer was written for. Cheaper than the id, and as good against a decaying medium.
bool sum_matches(std::span<const std::byte> footer, std::span<const std::byte> payload);

}  // namespace cenote::disk
