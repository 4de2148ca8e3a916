#include "policy/evict.h"

#include <algorithm>
#include <numeric>

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

std::vector<size_t> choose_cold(std::span<const ColdBlock> blocks, uint64_t needed_bytes) {
  std::vector<size_t> heap(blocks.size());
  std::iota(heap.begin(), heap.end(), size_t{0});
  const auto stays_longer = [&](size_t a, size_t b) {
    if (blocks[a].granted_until != blocks[b].granted_until) return blocks[a].granted_until > blocks[b].granted_until;
    if (blocks[a].size_bytes != blocks[b].size_bytes) return blocks[a].size_bytes < blocks[b].size_bytes;
    return a > b;
  };
  std::make_heap(heap.begin(), heap.end(), stays_longer);
  std::vector<size_t> victims;
  for (uint64_t freed = 0; freed < needed_bytes && !heap.empty(); freed += blocks[victims.back()].size_bytes) {
    std::pop_heap(heap.begin(), heap.end(), stays_longer);
    victims.push_back(heap.back());
    heap.pop_back();
  }
  return victims;
}

absl::Status check_fits(uint64_t size_bytes, uint64_t capacity_bytes) {
  if (size_bytes <= capacity_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(str_cat("the model needs ", format_bytes(size_bytes), " of cache, the host has ",
                                              format_bytes(capacity_bytes), "; raise agent.cache_capacity"));
}

}  // namespace cenote::policy
