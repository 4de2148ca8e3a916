// bin/bench_pool_measure.h - the measured loops of cenote-bench-pool. 1 GB is 10^9 bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "bin/bench_pool_target.h"
#include "fabric/transport.h"

namespace cenote {

struct BenchPoolOptions {
  fabric::TransportOptions transport;
  uint64_t arena_bytes = 128ull << 20;  // Read once per pass.
  int pairs = 15;                       // Passes of each kind, interleaved.
  size_t depth = 4;                     // Reads in flight.
};

struct BenchPoint {
  uint64_t bytes = 0;            // Of one read.
  double gb_per_s = 0;           // Our Transport, medians.
  double verified_gb_per_s = 0;  // The same with XXH3-64 of each 256 KiB checked on arrival.
  double bare_gb_per_s = 0;      // A plain fi_read loop.
  double ratio = 0;              // Median over pairs of bare time / our time.
  double cpu_s_per_gb = 0;       // Our Transport, both processes.
};

struct BenchPoolResult {
  std::string provider;
  std::vector<BenchPoint> points;
  double memcpy_gb_per_s = 0;
  double tcp_gb_per_s = 0;       // A plain TCP stream between the same processes.
};

// Starts the target, measures 64 KiB to 16 MiB, ends the target. kDataLoss: a chunk did not match.
absl::StatusOr<BenchPoolResult> measure_pool(const BenchPoolOptions& options);

}  // namespace cenote
