// bin/bench_router_load.h - a closed loop of requests, for `cenote bench router`: so many are outstanding, each answer sends the next.
// Three ways to the same small answer: through a router (source/client, as applications ask), straight to an executor (a Session of
// our own), and as opaque messages of the same sizes through a bare relay (wire/bare_echo.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "message/infer.h"
#include "wire/credentials.h"

namespace cenote {

struct BenchRouterOptions {
  std::string state_directory;       // For its certificates.
  std::string router, executor;      // host:port
  std::string model, revision;       // A name, and its digest in hexadecimal.
  std::string input;                 // Its one input, f32[1, elements].
  uint32_t elements = 16;
};

struct LoadResult {
  uint64_t failed = 0;
  std::string first_error;
  Duration took;
  std::vector<float> latencies_us;   // Ascending; one for each request that was answered.
  double percentile_us(double fraction) const;
};

// One thread calls; answers come on gRPC's.
class BenchLoad {
 public:
  // Connects and asks once each way but the bare one. kUnavailable, kDeadlineExceeded: who did not answer.
  static absl::StatusOr<std::unique_ptr<BenchLoad>> open(BenchRouterOptions options);
  virtual ~BenchLoad() = default;

  virtual LoadResult through_router(uint32_t outstanding, Duration duration) = 0;
  virtual LoadResult to_executor(uint32_t outstanding, Duration duration) = 0;
  // Callers who are connected to the router, each by a connection of his own, and ask nothing; those above `sessions` leave, others come.
  // Returns how many were welcomed within `patience`; the rest were refused, and `why` says how the last one was.
  virtual uint32_t hold_idle(uint32_t sessions, Duration patience, std::string* why) = 0;
  virtual LoadResult through_bare(const std::string& relay, uint32_t outstanding, Duration duration) = 0;

  // Of one request and its reply, as messages between client and router.
  virtual size_t request_bytes() const = 0;
  virtual size_t reply_bytes() const = 0;
};

}  // namespace cenote
