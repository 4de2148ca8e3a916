// bin/bench_pool_target.h - the other process of cenote-bench-pool: it serves an arena over the fabric and over a plain TCP socket.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "fabric/transport.h"

namespace cenote {

// The arena's contents, the same in both processes.
std::vector<std::byte> bench_arena(uint64_t size_bytes);

// The child: serves until its standard input ends. Returns the exit code.
int run_bench_target(const fabric::TransportOptions& options, uint64_t arena_bytes);

// The parent's handle. Ends and reaps the child when destroyed.
class BenchTarget {
 public:
  // Runs this program again as target. Errors: what the child said, or why it could not be started.
  static absl::StatusOr<std::unique_ptr<BenchTarget>> start(const fabric::TransportOptions& options, uint64_t arena_bytes);
  ~BenchTarget();
  BenchTarget(const BenchTarget&) = delete;

  const fabric::Address& address() const { return address_; }
  fabric::RegionKey key() const { return key_; }
  Duration cpu_time() const;
  // A connected socket on which each byte sent brings the whole arena.
  absl::StatusOr<int> connect_stream() const;

 private:
  BenchTarget() = default;
  pid_t pid_ = -1;
  int input_ = -1;
  fabric::Address address_;
  fabric::RegionKey key_;
  uint16_t stream_port_ = 0;
};

}  // namespace cenote
