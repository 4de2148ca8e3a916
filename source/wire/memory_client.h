// wire/memory_client.h - a memory server's control service, from the agent's (grants) and the deployer's (slabs) side.
// Thread-safe. Errors: the server's own (kResourceExhausted, kDataLoss, ...), kUnavailable, kDeadlineExceeded, kCancelled.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "message/control.h"
#include "message/record.h"
#include "wire/cancellation.h"
#include "wire/credentials.h"

namespace cenote::wire {

class MemoryClient {
 public:
  // Connects at the first call; `address` is host:port.
  static std::unique_ptr<MemoryClient> open(const std::string& address, const Identity& identity);
  virtual ~MemoryClient() = default;  // Calls under way end with kCancelled before it returns.

  // Does not block; `done` comes once, on a gRPC thread or within the call, and must not block. The grant's duration counts from the
  // moment this was called.
  virtual void grant(std::vector<Digest> ids, const std::string& holder, Duration timeout,
                     std::function<void(absl::StatusOr<Grant>)> done) = 0;

  // Blocking.
  virtual absl::StatusOr<SlabInfo> open_slab(uint64_t size_bytes, const std::string& writer, Duration timeout,
                                             Cancellation* cancellation = nullptr) = 0;
  virtual absl::StatusOr<SealResult> seal_slab(const SlabInfo& slab, const std::vector<SealRange>& ranges, Duration timeout,
                                               Cancellation* cancellation = nullptr) = 0;
  virtual absl::Status abandon_slab(const SlabInfo& slab, Duration timeout) = 0;
};

}  // namespace cenote::wire
