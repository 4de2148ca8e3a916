#include "policy/route.h"

#include <tuple>

namespace cenote::policy {
namespace {

int unreadiness(Readiness readiness) {
  switch (readiness) {
    case Readiness::kResident: return 0;
    case Readiness::kMapped: return 1;
    case Readiness::kCached: return 2;
    case Readiness::kLoading: return 3;
    case Readiness::kNone: return 4;
    case Readiness::kFailed: return 5;
  }
  return 5;
}

auto cost(const RouteCandidate& candidate) {
  return std::tuple(candidate.tried || candidate.readiness == Readiness::kFailed, candidate.outstanding,
                    unreadiness(candidate.readiness));
}

}  // namespace

std::optional<size_t> choose_executor(std::span<const RouteCandidate> candidates, uint64_t turn) {
  std::optional<size_t> best;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const size_t index = (turn + i) % candidates.size();
    const RouteCandidate& candidate = candidates[index];
    if (candidate.outstanding >= candidate.credits) continue;
    if (!best || cost(candidate) < cost(candidates[*best])) best = index;
  }
  return best;
}

}  // namespace cenote::policy
