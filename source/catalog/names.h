// catalog/names.h - how people name a model: "name", "name:tag", "name@digest". Pure.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cenote {

inline constexpr size_t kModelNameBytesMax = 128;
inline constexpr size_t kTagBytesMax = 64;
inline constexpr size_t kDigestPrefixMin = 6;  // Hexadecimal digits that may stand for a digest.
inline constexpr std::string_view kDefaultTag = "latest";

struct ModelRef {
  std::string name;
  std::string tag;            // Set unless digest_prefix is; "latest" if none was written.
  std::string digest_prefix;  // 6 to 64 hexadecimal digits, lower case.
  bool tag_written = false;   // "name:latest" rather than "name".
  std::string text() const;   // As written, "name:tag" if no tag was.
};

// Letters, digits, '.', '_', '-', beginning with a letter or digit. kInvalidArgument names the text, what is
// wrong and the limit.
absl::Status check_model_name(std::string_view name);
absl::Status check_tag(std::string_view tag);
absl::StatusOr<ModelRef> parse_model_ref(std::string_view text);

}  // namespace cenote
