// catalog/operators_text.h - operators.txt as text; private to this room.
#pragma once

#include <string_view>

namespace cenote {
extern const std::string_view kOperatorsText;
}  // namespace cenote
