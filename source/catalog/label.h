// catalog/label.h - a revision's name, kept in the pool beside its manifest, so that a lost catalogue can be made anew from
// what memory servers hold. A manifest has no name (equal models have equal digests, whatever they are called), and does not
// say which blocks it consists of; its label does. One block per name and revision, written by whoever deploys.
//
// Encoded form (version 1, little-endian; golden file tests/data/label_v1.bin), always kLabelBytes long, a size that weights
// never have, so that a server's inventory tells which blocks may be labels:
//   8 bytes "CENOTEL1", u32 version, 32 bytes digest, u32 length and name, i64 created_us, u64 manifest_bytes,
//   u32 n and n x {32-byte id, u32 size}, zeros to the end
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "message/record.h"

namespace cenote {

inline constexpr size_t kLabelBytes = 1021;
inline constexpr size_t kLabelManifestBlocksMax = 16;  // kManifestBytesMax in full blocks.

struct RevisionLabel {
  Digest revision;
  std::string name;
  int64_t created_us = 0;
  uint64_t manifest_bytes = 0;
  std::vector<BlockRef> manifest_blocks;
  bool operator==(const RevisionLabel&) const = default;
};

// kInvalidArgument: no name, digest or manifest, or a manifest in more blocks than a label can say.
absl::StatusOr<std::string> encode_label(const RevisionLabel& label);
// kInvalidArgument: not a label, or one that encode_label() would not write. kFailedPrecondition: a newer version.
absl::StatusOr<RevisionLabel> decode_label(std::string_view bytes);

}  // namespace cenote
