// fabric/libfabric/bare_read.h - the plainest fi_read loop there is: what a Transport's reads are measured against.
//
// No deadlines, no regions' bookkeeping, no errors survived: one endpoint, one queue slept on with fi_cq_sread, `depth` reads in
// flight. Single thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "fabric/transport.h"

namespace cenote::fabric {

class BareReader {
 public:
  // `provider` as open_transport() reported it; `target` is where read() puts the bytes.
  static absl::StatusOr<std::unique_ptr<BareReader>> open(const TransportOptions& options, const Address& peer,
                                                          std::span<std::byte> target);
  virtual ~BareReader() = default;
  // Reads target.size() bytes from the start of `source`, `read_bytes` at a time. kUnavailable: any error at all.
  virtual absl::Status read_all(RegionKey source, uint64_t read_bytes, size_t depth) = 0;
};

}  // namespace cenote::fabric
