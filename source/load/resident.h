// load/resident.h - one revision as an executor holds it: manifest, weights on the device, the gate through which they come.
//
// Life: send Acquire; on Acquired call map() (a few ms: it decodes the manifest; not in the thread that serves requests);
// hand weights() and gate() to the engine; pass on each FetchDone; on EvictRevision, or when done, destroy the models over
// it, then this object, then send ReleaseRevision. Host memory devices: the weights are the cache itself, mapped read-only and
// populated by a helper thread as chunks arrive. Other devices: a copier thread carries groups from the cache into the
// device's memory as they arrive; once readiness() is kResident the cache is no longer needed and release_cache() may be
// called, then ReleaseRevision sent, while the device keeps the weights.
//
// After a gate failed with kUnavailable, sending Acquire again makes the agent try again; this object stays valid, for extents do
// not move while the revision is held.
//
// Thread rules: map() and the destructor from one thread; gate() by one computing thread at a time; everything else from any thread.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "cache/mapping.h"
#include "catalog/manifest.h"
#include "device/device.h"
#include "device/weight_gate.h"
#include "load/plan.h"
#include "message/link.h"

namespace cenote::load {

struct LoadOptions {
  GroupRule group;  // Settings: load.group.
};

// Ask the agent for these chunks before the rest. Any thread; must not block.
using WantCallback = std::function<void(const Want&)>;

// For a request's waterfall. Network and verify as the agent measured them (zero until FetchDone, or if all was cached).
struct LoadStats {
  Duration resolve;            // In map(): reading and decoding the manifest.
  Duration network;
  Duration verify;
  Duration copy;               // Mapping, or from the first copy to the last on the device.
  uint64_t network_bytes = 0;
  uint64_t copied_bytes = 0;   // To a device's own memory.
  uint64_t cached_bytes = 0;   // There already when asked.
  uint64_t refetched = 0;
};

class ResidentRevision {
 public:
  // `acquired` must be ok. The view and the device must outlive the object. Errors: acquired.status; kDataLoss (manifest and
  // extents disagree); kInvalidArgument (manifest); kResourceExhausted, kOutOfRange
  // (device memory: as Device::reserve()).
  static absl::StatusOr<std::unique_ptr<ResidentRevision>> map(const Digest& revision, const Acquired& acquired,
                                                               cache::CacheView& view, device::Device& device,
                                                               const LoadOptions& options, WantCallback want);
  virtual ~ResidentRevision() = default;

  virtual const Digest& revision() const = 0;
  virtual const Manifest& manifest() const = 0;
  // The whole range, manifest().range_bytes() long.
  virtual device::DeviceSpan weights() const = 0;
  virtual device::WeightGate& gate() = 0;
  // kLoading: bytes still arrive. kCached: all arrived, mapping or copying goes on. kMapped (host memory devices) or
  // kResident (others): computing waits for nothing. kFailed: the agent gave up; status() says why.
  virtual Readiness readiness() const = 0;
  virtual absl::Status status() const = 0;
  // Blocks until readiness() is kMapped or kResident. Errors as the gate's.
  virtual absl::Status wait_ready(Instant deadline) = 0;
  virtual void fetch_done(const FetchDone& done) = 0;
  // Not on host memory devices: unmaps the cache. CENOTE_CHECKs kResident.
  virtual void release_cache() = 0;
  virtual LoadStats stats() const = 0;
};

}  // namespace cenote::load
