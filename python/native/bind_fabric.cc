// What this host offers for transfers, for `cenote doctor`.
#include <pybind11/stl.h>

#include "bind.h"
#include "fabric/libfabric/devices.h"
#include "raise.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {

void bind_fabric(py::module_& module) {
  module.def("fabric_providers", [] {
    std::vector<fabric::ProviderInfo> found;
    {
      const py::gil_scoped_release release;
      found = fabric::list_providers();
    }
    py::list list;
    for (const auto& provider : found) list.append(py::dict("name"_a = provider.name, "domains"_a = provider.domains));
    return list;
  });
  module.def("verbs_devices", [] {
    py::list list;
    for (const auto& device : call([] { return fabric::list_verbs_devices(); })) {
      py::list ports;
      for (const auto& port : device.ports) {
        ports.append(py::dict("number"_a = port.number, "state"_a = port.state, "link_layer"_a = port.link_layer,
                              "mtu_bytes"_a = port.mtu_bytes, "gids"_a = port.gids));
      }
      list.append(py::dict("name"_a = device.name, "firmware"_a = device.firmware, "ports"_a = ports));
    }
    return list;
  });
}

}  // namespace cenote::native
