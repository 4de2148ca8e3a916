// wire/bounds.h - what a message from another process may contain at most, and the checks that hold it to that. Every from_proto()
// uses these before it allocates in proportion. Errors are kInvalidArgument and name field, value and limit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"

namespace cenote::wire {

inline constexpr size_t kNameBytesMax = 512;          // Names, tags, addresses, device filters.
inline constexpr size_t kTextBytesMax = 8 << 10;      // Errors and notes; longer ones are cut, not refused.
inline constexpr size_t kOpaqueBytesMax = 256;        // Fabric addresses.
inline constexpr size_t kPathBytesMax = 4096;
inline constexpr size_t kTensorsMax = 1024;           // Of one request or reply.
inline constexpr size_t kRankMax = 32;
inline constexpr size_t kBlocksMax = 1 << 20;         // Of one revision, report or request: 4 TiB of weights.
inline constexpr size_t kRevisionsMax = 1 << 16;
inline constexpr size_t kMembersMax = 1 << 14;
inline constexpr size_t kReplicasMax = 1 << 21;       // Blocks an assignment may name.
inline constexpr size_t kServersPerBlockMax = 64;
inline constexpr size_t kCopiesMax = 1 << 14;         // Copies, checks and their outcomes in one message.
inline constexpr size_t kDevicesMax = 1024;           // Of one host, or in a list of devices of one message.
inline constexpr size_t kNotesMax = 64;
inline constexpr size_t kMergedMax = 64;              // Messages of a Session that travel as one, and their bytes.
inline constexpr size_t kMergedBytesMax = 64 << 10;
inline constexpr size_t kOperationIdBytes = 16;
inline constexpr int64_t kDurationUsMax = 30ll * 24 * 3600 * 1'000'000;

absl::Status check_count(std::string_view field, uint64_t count, uint64_t limit);
absl::Status check_text(std::string_view field, std::string_view text, size_t bytes_max);
// 32 bytes, or none where `may_be_empty`.
absl::StatusOr<Digest> digest_of(std::string_view field, std::string_view bytes, bool may_be_empty = false);
std::string digest_bytes(const Digest& digest);  // Empty for the empty digest.
// 0 to 30 days.
absl::StatusOr<Duration> duration_of(std::string_view field, int64_t us);

}  // namespace cenote::wire
