#include "base/nearest.h"

#include <algorithm>
#include <vector>

#include "base/text.h"

namespace cenote {
namespace {

constexpr size_t kNameBytesMax = 128;  // Longer names are noise; comparing them would cost their product.
// Table cells in all, some milliseconds: a router with very many models says "no such model" as quickly as any other.
constexpr size_t kCellsMax = size_t{1} << 21;

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  if (name.size() > kNameBytesMax) return "";
  std::string best;
  size_t best_distance = SIZE_MAX;
  size_t cells = 0;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kNameBytesMax) continue;
    const size_t longer = std::max(name.size(), candidate.size());
    const size_t shorter = std::min(name.size(), candidate.size());
    const size_t allowed = std::min(std::max<size_t>(2, longer / 3), best_distance - 1);
    if (longer - shorter > allowed) continue;  // So many insertions at least.
    cells += name.size() * candidate.size();
    if (cells > kCellsMax) break;
    const size_t distance = edit_distance(name, candidate);
    if (distance <= allowed) best = candidate, best_distance = distance;
    if (distance == 0) break;
  }
  return best;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : str_cat(", did you mean '", nearest, "'?");
}

}  // namespace cenote
