// fabric/libfabric/open.h - opens a libfabric Transport; what open_transport() does for every provider but "loopback".
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "fabric/transport.h"

namespace cenote::fabric {

absl::StatusOr<std::unique_ptr<Transport>> open_libfabric(const TransportOptions& options);

}  // namespace cenote::fabric
