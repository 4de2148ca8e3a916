// policy/evict.h - which entries of a cache leave when room is needed. A function of its arguments; the caller evicts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"

namespace cenote::policy {

// A block, or a revision on a device: whatever leaves as a whole.
struct EvictionCandidate {
  uint64_t size_bytes = 0;
  Instant last_use;
  bool pinned = false;  // In use: never chosen.
};

// Indices of the least recently used unpinned candidates, oldest first (of equal age the first), that together free at least
// `needed_bytes`; none to spare at the end of the list. Empty optional: all unpinned ones together are not enough.
std::optional<std::vector<size_t>> choose_victims(std::span<const EvictionCandidate> candidates, uint64_t needed_bytes);

// kResourceExhausted if something of `size_bytes` can never fit, with both sizes and the remedy.
absl::Status check_fits(uint64_t size_bytes, uint64_t capacity_bytes);

}  // namespace cenote::policy
