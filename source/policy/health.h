// policy/health.h - which memory servers are asked last for a while because they serve badly. A function of its arguments.
//
// A server is compared with its peers: what all of them suffer from is no fault of one. Excluded means: agents ask it where no other can be
// asked, it takes no new blocks, what it holds gets replicas elsewhere. It is taken back when its probation is over and nothing is wrong with
// it by then, or earlier when fresh reads say so; who is excluded again has twice as long a probation. No more than half of all are excluded: when others leave, whose
// probation ends next is taken back.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"

namespace cenote::policy {

// Of one server, in the time that is looked at.
struct ServerSample {
  uint64_t reads = 0;            // By agents.
  uint64_t bytes = 0;
  Duration read_time;            // Summed over the reads.
  uint64_t failures = 0;         // Times that agents' reads failed or it was silent to them.
  uint64_t corrupt = 0;          // Copies of its own that it found bad.
  uint64_t returns = 0;          // Times that it came back: restarted, or connected anew.
};

enum class Trouble : uint8_t { kNone, kSlow, kFailing, kCorrupt, kFlapping };

struct Health {
  Trouble trouble = Trouble::kNone;
  std::string reason;            // For people; empty with kNone.
  Instant since;                 // Of the trouble, or of its end.
  Instant until;                 // The probation's end.
  uint32_t times = 0;            // Excluded so often of late.
};

struct HealthServer {
  bool there = false;            // A member: others are not judged anew.
  ServerSample lately;
  Health last;
};

struct HealthLimits {
  uint64_t reads_min = 8;                                  // Fewer say nothing. Agents try whom they pass as slow with a few (load/server_table.h).
  double slow_factor = 8;                                  // Below its peers' median rate by this: slow. By half of it or less: well.
  Duration slow_floor = Duration::from_ms(20);             // A mean read is longer than this.
  uint64_t failures_max = 4;                               // One more, and more than the peers': failing. The next two likewise.
  uint64_t corrupt_max = 2;
  uint64_t returns_max = 2;
  Duration probation = Duration::from_seconds(60);
  uint32_t probation_doubled_max = 5;                      // Times.
  static constexpr Duration kLookedAt = Duration::from_seconds(30);  // What samples are of.
};

// The health of each from now on, in the order given.
std::vector<Health> judge_health(Instant now, std::span<const HealthServer> servers, const HealthLimits& limits);

}  // namespace cenote::policy
