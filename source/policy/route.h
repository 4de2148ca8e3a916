// policy/route.h - which executor gets the next request. Pure.
//
// Fewest outstanding first (join the shortest queue), since requests of one model cost much the same. Among equals the one that is
// readiest for the revision: it saves a fetch or a mapping, which costs more than any difference in queues of equal length.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "message/member.h"

namespace cenote::policy {

struct RouteCandidate {
  uint32_t credits = 0;                        // Requests it takes from this router at once.
  uint32_t outstanding = 0;                    // Sent or reserved and not answered.
  Readiness readiness = Readiness::kNone;      // Of the revision asked for.
  bool tried = false;                          // It failed this very request before.
};

// Index of the executor to send to; none if all are out of credits. An untried one is preferred to a tried one whatever their
// queues; a revision that failed to load there counts as tried. `turn` breaks the last ties: the first at or after turn % n.
std::optional<size_t> choose_executor(std::span<const RouteCandidate> candidates, uint64_t turn);

}  // namespace cenote::policy
