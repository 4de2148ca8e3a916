// base/units.h - byte sizes as constants and as people write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace cenote {

inline constexpr uint64_t kKiB = 1ull << 10;
inline constexpr uint64_t kMiB = 1ull << 20;
inline constexpr uint64_t kGiB = 1ull << 30;

// Frozen by the manifest format (catalog/manifest.h).
inline constexpr uint64_t kChunkBytes = 256 * kKiB;     // Unit of verification and of range reads.
inline constexpr uint64_t kBlockBytesMax = 4 * kMiB;    // A block is at most this, padded to kBlockAlignBytes.
inline constexpr uint64_t kBlockAlignBytes = 4 * kKiB;
inline constexpr uint64_t kTensorAlignBytes = 512;
static_assert(kBlockBytesMax % kChunkBytes == 0 && kChunkBytes % kBlockAlignBytes == 0);

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// "512", "64 KiB", "1.5GiB", "2GB" (10^9). kInvalidArgument names the text and what is allowed.
absl::StatusOr<uint64_t> parse_bytes(std::string_view text);
// "1.5 GiB", "930 MiB", "12 B".
std::string format_bytes(uint64_t bytes);

// "250ms", "5 s", "2min", "100us". kInvalidArgument otherwise.
absl::StatusOr<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration duration);

}  // namespace cenote
