// fabric/local_address.h - which of this host's addresses reaches a peer: what a transport that only connects binds to.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace cenote::fabric {

// For a peer at `address` ("host:port", "[v6]:port"), the numeric address of the interface that the kernel's routes choose. Sends
// nothing. kInvalidArgument: not host:port; kUnavailable: the name does not resolve, or there is no route.
absl::StatusOr<std::string> local_address_towards(const std::string& address);

}  // namespace cenote::fabric
