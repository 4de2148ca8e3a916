// fabric/loopback/loopback.h - a Transport whose peers are other Transports of the same process, for tests and for one-process
// use. As in libfabric, the target serves its readers inside its own poll() and wait(): one that does neither hangs them.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "fabric/transport.h"

namespace cenote::fabric {

// options.port names the address (0: a fresh one); kAlreadyExists if a living Transport has it. bind_address is not used.
absl::StatusOr<std::unique_ptr<Transport>> open_loopback(const TransportOptions& options);

}  // namespace cenote::fabric
