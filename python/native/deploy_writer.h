// native/deploy_writer.h - sends blocks to one memory server: open a slab, write one-sided, seal; repeat.
//
// Sealing hashes every block at the server, so what was written and what was meant cannot differ unnoticed: a slab whose bytes changed on
// the way is sent again, in halves, down to a block at a time. A writer that
// dies leaves slabs that expire; one that fails or is stopped abandons its slab.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fabric/transport.h"
#include "message/control.h"
#include "range_source.h"

namespace cenote::native {

// A memory server's control service, as a writer needs it. Calls block, each with a deadline of its own.
class SlabServer {
 public:
  virtual ~SlabServer() = default;
  virtual absl::StatusOr<SlabInfo> open(uint64_t size_bytes, const std::string& writer) = 0;
  virtual absl::StatusOr<SealResult> seal(const SlabInfo& slab, const std::vector<SealRange>& ranges) = 0;
  virtual void abandon(const SlabInfo& slab) = 0;  // Best effort: the server forgets it by itself in time.
};

struct BlockWrite {
  BlockRef ref;
  const RangeSource* source = nullptr;
  uint64_t offset_bytes = 0;  // In the source.
};

struct WriteOptions {
  std::string writer;                                   // For the server's log.
  uint64_t slab_bytes = 32 * kMiB;                      // Wished for; smaller ones are taken down to one block.
  uint64_t write_bytes = kMiB;                          // Largest single write.
  size_t writes_in_flight = 4;
  Duration write_timeout = Duration::from_seconds(10);
  uint32_t corrupt_max = 8;                             // Slabs that arrived changed, one after another, before kDataLoss.
  Duration slab_patience = Duration::from_seconds(20);       // How long to wait while other writers hold all slabs.
};

struct WriteResult {
  uint64_t written_bytes = 0;
  uint64_t deduplicated_bytes = 0;
};

// The calling thread drives `transport`, which must be its own. Errors: kUnavailable (the server died or fell silent),
// kResourceExhausted (no room; says what is free), kDataLoss (bytes changed on the way), kCancelled (progress said so).
absl::StatusOr<WriteResult> write_blocks(fabric::Transport& transport, SlabServer& server, std::span<const BlockWrite> blocks,
                                         const WriteOptions& options, const Progress& progress);

}  // namespace cenote::native
