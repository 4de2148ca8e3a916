// fabric/libfabric/devices.h - what this host offers for transfers, for `cenote doctor`. Any thread; takes milliseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace cenote::fabric {

// One libfabric provider with reliable datagram endpoints and remote reads.
struct ProviderInfo {
  std::string name;                  // "tcp;ofi_rxm"
  std::vector<std::string> domains;  // Interfaces or devices: "eth0", "lo", "mlx5_0".
};
// Those that open_transport() can use, in its order of preference, then the rest.
std::vector<ProviderInfo> list_providers();

struct VerbsPort {
  int number = 0;                    // From 1.
  std::string state;                 // "ACTIVE", "DOWN", "INIT", "ARMED"
  std::string link_layer;            // "InfiniBand", "Ethernet"
  int mtu_bytes = 0;                 // Active; 256 to 4096.
  std::vector<std::string> gids;     // Non-zero ones, "fe80:0000:...".
};
struct VerbsDevice {
  std::string name;                  // "mlx5_0", "rxe0"
  std::string firmware;
  std::vector<VerbsPort> ports;
};
// Empty: no RDMA device. Errors: kPermissionDenied, kInternal if the devices cannot be read; the message names the device.
absl::StatusOr<std::vector<VerbsDevice>> list_verbs_devices();

}  // namespace cenote::fabric
