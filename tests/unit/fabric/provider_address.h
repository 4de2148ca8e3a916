// Where a test binds a provider on this host.
#pragma once

#include <cstdlib>
#include <string>

namespace cenote::fabric {

// A verbs device has no loopback address: who has a device names its address in CENOTE_TEST_VERBS_ADDRESS. Empty: there is none.
inline std::string bind_address_for(const std::string& provider) {
  if (provider.find("verbs") == std::string::npos) return "127.0.0.1";
  const char* address = std::getenv("CENOTE_TEST_VERBS_ADDRESS");
  return address == nullptr ? "" : address;
}

}  // namespace cenote::fabric
