#include "catalog/label.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/status.h"
#include "base/text.h"
#include "base/units.h"
#include "catalog/manifest.h"
#include "catalog/names.h"

namespace cenote {
namespace {

constexpr std::string_view kMagic = "CENOTEL1";
constexpr uint32_t kVersion = 1;
static_assert(kLabelManifestBlocksMax * kBlockBytesMax >= kManifestBytesMax);
static_assert(kMagic.size() + 4 + 32 + 4 + kModelNameBytesMax + 8 + 8 + 4 + kLabelManifestBlocksMax * 36 <= kLabelBytes);

absl::Status bad(std::string_view what) { return absl::InvalidArgumentError(str_cat("label: ", what)); }

absl::Status check(const RevisionLabel& label) {
  CENOTE_RETURN_IF_ERROR(check_model_name(label.name));
  if (label.revision.empty()) return bad("no digest");
  if (label.manifest_blocks.empty() || label.manifest_blocks.size() > kLabelManifestBlocksMax) {
    return bad(str_cat("a manifest in ", label.manifest_blocks.size(), " blocks, 1 to ", kLabelManifestBlocksMax));
  }
  uint64_t sum = 0;
  for (const BlockRef& block : label.manifest_blocks) {
    if (block.id.empty() || block.size_bytes == 0 || block.size_bytes > kBlockBytesMax) return bad("a block without id, or of a size that no block has");
    sum += block.size_bytes;
  }
  if (sum != label.manifest_bytes || sum > kManifestBytesMax) {
    return bad(str_cat("a manifest of ", label.manifest_bytes, " bytes in blocks of ", sum, ", at most ", kManifestBytesMax));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> encode_label(const RevisionLabel& label) {
  CENOTE_RETURN_IF_ERROR(check(label));
  ByteWriter out;
  out.raw(kMagic.data(), kMagic.size());
  out.u32(kVersion);
  out.raw(label.revision.bytes.data(), label.revision.bytes.size());
  out.text(label.name);
  out.i64(label.created_us);
  out.u64(label.manifest_bytes);
  out.u32(static_cast<uint32_t>(label.manifest_blocks.size()));
  for (const BlockRef& block : label.manifest_blocks) {
    out.raw(block.id.bytes.data(), block.id.bytes.size());
    out.u32(block.size_bytes);
  }
  std::string bytes = out.take();
  CENOTE_CHECK(bytes.size() <= kLabelBytes);
  bytes.resize(kLabelBytes);
  return bytes;
}

absl::StatusOr<RevisionLabel> decode_label(std::string_view bytes) {
  if (bytes.size() != kLabelBytes || !bytes.starts_with(kMagic)) return bad("not a label");
  ByteReader in(bytes.substr(kMagic.size()));
  if (const uint32_t version = in.u32(); version != kVersion) {
    return absl::FailedPreconditionError(str_cat("label: version ", version, ", this Cenote reads ", kVersion, ": use the Cenote that wrote it"));
  }
  RevisionLabel label;
  in.raw(label.revision.bytes.data(), label.revision.bytes.size());
  label.name = in.text(kModelNameBytesMax);
  label.created_us = in.i64();
  label.manifest_bytes = in.u64();
  const uint32_t count = in.u32();
  if (!in.ok() || count > kLabelManifestBlocksMax) return bad("truncated, or a length out of bounds");
  label.manifest_blocks.resize(count);
  for (BlockRef& block : label.manifest_blocks) {
    in.raw(block.id.bytes.data(), block.id.bytes.size());
    block.size_bytes = in.u32();
  }
  if (!in.ok()) return bad("truncated");
  const std::string_view rest = bytes.substr(kLabelBytes - in.left());
  if (!std::all_of(rest.begin(), rest.end(), [](char c) { return c == 0; })) return bad("bytes after its end");
  CENOTE_RETURN_IF_ERROR(check(label));
  return label;
}

}  // namespace cenote
