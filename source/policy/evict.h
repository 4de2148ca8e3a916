// policy/evict.h - which entries of a cache or an arena leave when room is needed. A function of its arguments; the caller evicts.
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

// A block of a memory server's arena that is on its disk too and that nobody may read now.
struct ColdBlock {
  uint64_t size_bytes = 0;
  Instant granted_until;  // Its last grant's end.
};

// Indices of the blocks that leave the arena so that at least `needed_bytes` come free, in the order in which they leave: the longest not
// granted first, of those the largest first (so that fewer leave), of those the first. All of them if together they are not enough.
// O(blocks + victims x log blocks).
std::vector<size_t> choose_cold(std::span<const ColdBlock> blocks, uint64_t needed_bytes);

// kResourceExhausted if something of `size_bytes` can never fit, with both sizes and the remedy.
absl::Status check_fits(uint64_t size_bytes, uint64_t capacity_bytes);

}  // namespace cenote::policy
