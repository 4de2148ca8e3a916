// base/utf8.h - whether bytes are text that may be shown and stored. Pure.
#pragma once

#include <string_view>

namespace cenote {

// UTF-8 (RFC 3629: shortest forms only, no surrogates, at most U+10FFFF) without control characters.
bool plain_utf8(std::string_view text);

}  // namespace cenote
