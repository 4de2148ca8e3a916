// tests/bench/tail_race.h - how soon a fetch would have ended if slow reads had been raced. Pure.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace cenote::bench {

// The value that `share` (0 to 1) of all, rounded down, come before.
template <typename Value>
Value quantile(std::vector<Value> values, double share) {
  CENOTE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(share * static_cast<double>(values.size()));
  return values[std::min(rank, values.size() - 1)];
}

// The reads in order, `in_flight` at once, each as long as it took but no longer than `longest`: when the last ends.
inline Duration replay(std::span<const Duration> reads, size_t in_flight, Duration longest) {
  std::vector<Duration> free_at(in_flight);
  for (const Duration read : reads) {
    const auto next = std::min_element(free_at.begin(), free_at.end());
    *next = *next + std::min(read, longest);
  }
  return *std::max_element(free_at.begin(), free_at.end());
}

}  // namespace cenote::bench
