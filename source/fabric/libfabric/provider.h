// fabric/libfabric/provider.h - which libfabric provider this host has, and opening the one wanted.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "fabric/libfabric/handles.h"
#include "fabric/transport.h"

namespace cenote::fabric {

// Two descriptions of one provider and domain: with the wished port for the endpoint that serves, without for the others.
struct ProviderChoice {
  std::string name;
  Info serving;
  Info connecting;
};

// Preference efa, verbs;ofi_rxm, tcp;ofi_rxm if options.provider is empty; "tcp" and "verbs" mean their ofi_rxm forms.
absl::StatusOr<ProviderChoice> choose_provider(const TransportOptions& options);

// False for providers that are not reached by an IP address and port (shm, efa).
bool uses_ip_address(const std::string& provider);

}  // namespace cenote::fabric
