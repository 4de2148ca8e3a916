// base/text.h - std::string_view where Abseil expects its own. Debian builds Abseil for C++14, where absl::string_view is a type apart
// that std::string_view does not convert to: absl::StrCat(view) does not compile. Cenote's interfaces use std::string_view and build
// text with str_cat; everything else of Abseil takes to_absl(view). The result is as long as the view's bytes live.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace cenote {

inline absl::string_view to_absl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view to_std(absl::string_view text) { return {text.data(), text.size()}; }

namespace text_internal {
inline absl::string_view piece(std::string_view text) { return to_absl(text); }
template <typename T>
const T& piece(const T& value) {
  return value;
}
}  // namespace text_internal

// absl::StrCat that also takes std::string_view: strings, integers, floating point, absl::Hex and absl::Dec.
template <typename... Pieces>
std::string str_cat(const Pieces&... pieces) {
  return absl::StrCat(text_internal::piece(pieces)...);
}

template <typename... Pieces>
void str_append(std::string* target, const Pieces&... pieces) {
  absl::StrAppend(target, text_internal::piece(pieces)...);
}

}  // namespace cenote
