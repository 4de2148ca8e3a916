// Goal: a label that decodes is one that encode_label() writes, byte for byte; others are refused, whatever they say of lengths.
// Input: a label as it is, and again with the magic, the version and the length made right.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/status.h"
#include "catalog/label.h"

namespace {

using namespace cenote;

void check(std::string_view bytes) {
  const auto label = decode_label(bytes);
  if (!label.ok()) {
    CENOTE_CHECK(absl::IsInvalidArgument(label.status()) || absl::IsFailedPrecondition(label.status()));
    return;
  }
  CENOTE_CHECK(!label->name.empty() && !label->revision.empty() && label->manifest_blocks.size() <= kLabelManifestBlocksMax);
  const auto again = encode_label(*label);
  CENOTE_CHECK(again.ok() && *again == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  check(bytes);
  bytes.resize(kLabelBytes);
  std::memcpy(bytes.data(), "CENOTEL1\1\0\0\0", 12);
  check(bytes);
  return 0;
}
