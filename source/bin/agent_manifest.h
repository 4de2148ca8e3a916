// bin/agent_manifest.h - checks a fetched manifest and reads what the agent needs of it. Any thread; the extents must be pinned.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/hash.h"
#include "base/status.h"
#include "catalog/manifest.h"
#include "node/agent_events.h"

namespace cenote {

// kDataLoss: the bytes do not hash to the revision's digest. kInvalidArgument: decode_manifest_blocks().
inline absl::StatusOr<std::vector<BlockEntry>> check_manifest(std::span<const std::byte> cache, const node::agent::CheckManifest& check) {
  uint64_t size = 0;
  for (const CacheExtent& extent : check.extents) size += extent.size_bytes;
  if (size != check.manifest_bytes || size > kManifestBytesMax) {
    return absl::DataLossError(str_cat("a manifest of ", size, " bytes; the catalogue says ", check.manifest_bytes, ", the limit is ", kManifestBytesMax));
  }
  std::string joined;
  std::string_view bytes;
  for (const CacheExtent& extent : check.extents) {
    bytes = {reinterpret_cast<const char*>(cache.data() + extent.offset_bytes), extent.size_bytes};
    if (check.extents.size() > 1) joined.append(bytes);
  }
  if (check.extents.size() > 1) bytes = joined;
  if (!check.hashed && sha256(as_bytes(bytes)) != check.revision) {
    return absl::DataLossError(str_cat("the manifest of ", check.revision.short_hex(), " does not hash to its revision's digest"));
  }
  return decode_manifest_blocks(bytes);
}

}  // namespace cenote
