// message/fetch.h - what the agent's state machine tells its fetcher, and what comes back. Stays inside the agent's process.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "message/link.h"
#include "message/record.h"

namespace cenote {

struct FetchBlock {
  BlockRef ref;
  CacheExtent extent;                 // Where it goes; size_bytes as in ref.
  std::vector<uint64_t> chunk_sums;   // Empty: the block is checked whole against its id (manifests, whose sums nobody knows yet).
  std::vector<std::string> replicas;  // Memory servers that hold it, preferred first.
  uint32_t have = 0;                  // Chunks there already: never written again. The fetcher reads them off the arrival word.
  bool kept = false;                  // The others lie there since an earlier use: checked where they are, read only if they changed.
};

// Blocks in the order they are needed. A block that another job fetches already is fetched once, for both.
struct FetchJob {
  uint64_t id = 0;
  Digest revision;                    // For messages.
  bool urgent = false;                // Before all that are not.
  std::vector<FetchBlock> blocks;
  std::vector<FetchBlock> grant_ahead;  // Not fetched yet: permission to read them is asked for along with the others'.
};

// Comes once per job, when nothing writes into the job's extents any more.
struct FetchResult {
  uint64_t job = 0;
  absl::Status status;                // kUnavailable, kDataLoss (names block and servers), kCancelled.
  std::vector<Digest> missing;        // Blocks of the job that are not whole; empty with ok.
  Duration network;                   // First read posted to last byte arrived.
  Duration verify;
  uint64_t bytes = 0;                 // That came over the fabric for it.
  uint64_t refetched = 0;             // Chunks that came corrupt, or were kept and have changed.
};

}  // namespace cenote
