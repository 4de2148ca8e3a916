// device/weight_gate.h - says when weights may be read. load/ implements it, execute/ waits at it.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "base/clock.h"

namespace cenote::device {

struct ByteRange {
  uint64_t begin = 0;  // In the revision's range.
  uint64_t end = 0;
};

// Called by one computing thread at a time.
// Errors of the waits: kDeadlineExceeded; kUnavailable / kDataLoss when the bytes cannot be had any more.
class WeightGate {
 public:
  virtual ~WeightGate() = default;
  // All of it: nothing need be asked again for this run.
  virtual bool complete() const = 0;
  // Until every byte of `range` is on the device.
  virtual absl::Status wait(ByteRange range, Instant deadline) = 0;
  // Until the rows of a gather-only table are: row r is [table.begin + r x row_bytes, + row_bytes). Asks for their chunks
  // ahead of everything else.
  virtual absl::Status wait_rows(ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant deadline) = 0;
  // Whether transfers still go on: compute then leaves them a core.
  virtual bool transferring() const = 0;
};

}  // namespace cenote::device
