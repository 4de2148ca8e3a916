// native/measure_reads.h - how fast this host reads from one memory server: for `cenote doctor --bandwidth`.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "fabric/transport.h"
#include "message/record.h"
#include "object_reader.h"

namespace cenote::native {

struct ReadSpeed {
  uint64_t bytes = 0;      // Read in all; blocks are read over and over.
  double gb_per_s = 0;     // 10^9 bytes, in reads of 1 MiB, 4 in flight, as an agent reads by default.
  double latency_us = 0;   // Median of reads of 4 KiB, one at a time.
};

// Reads what the server holds of `blocks` for about `at_most`, within one grant's duration; bytes are not looked at. Loop-affine with
// `transport`. kNotFound: it holds none of them. kUnavailable, kDeadlineExceeded: a read failed.
absl::StatusOr<ReadSpeed> measure_reads(fabric::Transport& transport, const ReadableServer& server, std::span<const BlockRef> blocks,
                                        Duration at_most, Duration read_timeout);

}  // namespace cenote::native
