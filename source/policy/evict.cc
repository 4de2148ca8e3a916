#include "policy/evict.h"

#include <algorithm>

#include "base/status.h"
#include "base/units.h"

namespace cenote::policy {

std::optional<std::vector<size_t>> choose_victims(std::span<const EvictionCandidate> candidates, uint64_t needed_bytes) {
  std::vector<size_t> order;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!candidates[i].pinned) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return candidates[a].last_use < candidates[b].last_use; });
  uint64_t freed = 0;
  size_t count = 0;
  while (freed < needed_bytes) {
    if (count == order.size()) return std::nullopt;
    freed += candidates[order[count++]].size_bytes;
  }
  order.resize(count);
  return order;
}

absl::Status check_fits(uint64_t size_bytes, uint64_t capacity_bytes) {
  if (size_bytes <= capacity_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(str_cat("the model needs ", format_bytes(size_bytes), " of cache, the host has ",
                                              format_bytes(capacity_bytes), "; raise agent.cache_capacity"));
}

}  // namespace cenote::policy
