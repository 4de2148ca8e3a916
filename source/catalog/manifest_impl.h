// catalog/manifest_impl.h - between the files of the manifest. Not for other rooms.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "catalog/manifest.h"

namespace cenote {

// Section 3.
std::string encode_tensor_section(const Manifest& manifest);
absl::Status decode_tensor_section(std::string_view json, Manifest& manifest);

// Size and chunk sums of each block; sets offset_bytes: in a range blocks are padded to 4 KiB, in a file they
// are not.
absl::Status check_blocks(std::vector<BlockEntry>& blocks, bool in_range, std::string_view what);

}  // namespace cenote
