// Goal: a manifest that decodes is safe to use: every tensor and chunk lies within blocks that follow each
// other, and it survives another round. One that does not is refused without a crash, a hang, or more memory
// than its size allows.
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "catalog/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Manifest> manifest = decode_manifest(bytes);
  const absl::StatusOr<std::vector<BlockEntry>> blocks = decode_manifest_blocks(bytes);
  if (!manifest.ok()) {
    CENOTE_CHECK(absl::IsInvalidArgument(manifest.status()) && !manifest.status().message().empty());
    return 0;
  }
  CENOTE_CHECK(blocks.ok() && blocks->size() == manifest->blocks.size());
  uint64_t end = 0;
  for (const BlockEntry& block : manifest->blocks) {
    CENOTE_CHECK(block.offset_bytes == end && block.ref.size_bytes >= 1 &&
                 block.ref.size_bytes <= kBlockBytesMax);
    CENOTE_CHECK(block.chunk_sums.size() == (block.ref.size_bytes + kChunkBytes - 1) / kChunkBytes);
    end = round_up(end + block.ref.size_bytes, kBlockAlignBytes);
  }
  CENOTE_CHECK(end == manifest->range_bytes());
  for (const TensorEntry& tensor : manifest->tensors) {
    CENOTE_CHECK(tensor.offset_bytes <= end && tensor.size_bytes <= end - tensor.offset_bytes);
    CENOTE_CHECK(static_cast<uint64_t>(*element_count(tensor.shape)) * dtype_bytes(tensor.dtype) ==
                 tensor.size_bytes);
  }
  const std::string again = encode_manifest(*manifest);
  CENOTE_CHECK(decode_manifest(again).ok() && encode_manifest(*decode_manifest(again)) == again);
  return 0;
}
