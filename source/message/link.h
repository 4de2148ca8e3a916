// message/link.h - what an executor and its agent say to each other over their Unix socket.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "message/member.h"

namespace cenote {

// Where one block of an object lies in the host's cache, and which arrival word tells its chunks (cache/format.h).
struct CacheExtent {
  uint64_t offset_bytes = 0;
  uint32_t size_bytes = 0;
  uint32_t word = 0;
};

// Executor -> agent.
struct Acquire {
  uint64_t ticket = 0;      // The executor's; comes back in Acquired.
  Digest revision;
  bool urgent = false;      // A request waits for it; otherwise prefetch.
};
struct WantedChunks {
  uint32_t block = 0;       // Index into RevisionRecord::blocks.
  uint32_t chunks = 0;      // Bit i: chunk i.
};
struct Want {
  Digest revision;
  std::vector<WantedChunks> chunks;
};
struct ReleaseRevision { Digest revision; };
struct AttachBeat { Duration next; };  // Either way: I live, and say so again within this.
using ExecutorUp = std::variant<ExecutorReport, Acquire, Want, ReleaseRevision, AttachBeat>;

// Agent -> executor.
struct Attached {
  std::string cache_path;
  uint64_t cache_bytes = 0;
  std::string executor_name;
};
struct Acquired {
  uint64_t ticket = 0;
  absl::Status status;                // kResourceExhausted: no room now; kOutOfRange: never; kCancelled: not to be prefetched.
  uint64_t manifest_bytes = 0;
  std::vector<CacheExtent> manifest;
  std::vector<CacheExtent> weights;   // In the order of RevisionRecord::blocks.
  uint64_t cached_bytes = 0;          // Of the weights, there already when asked.
};
struct Prefetch { std::vector<Digest> revisions; };
struct EvictRevision { Digest revision; };
struct DrainExecutor {};
struct FetchDone {
  Digest revision;
  absl::Status status;
  Duration network;
  Duration verify;
  uint64_t bytes = 0;
  uint64_t refetched = 0;             // Chunks that came corrupt and were fetched again.
};
using ExecutorDown = std::variant<Attached, Acquired, Prefetch, EvictRevision, DrainExecutor, FetchDone, AttachBeat>;

}  // namespace cenote
