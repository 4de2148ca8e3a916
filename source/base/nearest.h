// base/nearest.h - "did you mean": the known name nearest to a mistyped one. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cenote {

// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`: optimal string alignment
// (Damerau, "A technique for computer detection and correction of spelling errors", 1964). O(|a| x |b|).
size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the least distance, the first of equals; empty if none is within a third of the longer
// name (at least 2). Looks at as many candidates as a few milliseconds allow, the first ones.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

// ", did you mean 'x'?" or "".
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

}  // namespace cenote
