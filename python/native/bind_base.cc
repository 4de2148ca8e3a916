// Settings and hashes.
#include <pybind11/stl.h>

#include "base/cluster_settings.h"
#include "base/hash.h"
#include "bind.h"
#include "raise.h"
#include "tensors.h"

namespace py = pybind11;

namespace cenote::native {

void bind_base(py::module_& module) {
  module.def(
      "load_settings",
      [](const std::string& path, const std::vector<std::string>& overrides) {
        return settings_json(call([&] { return load_cluster_settings(path, overrides, process_environment()); }));
      },
      py::arg("path"), py::arg("overrides") = std::vector<std::string>{},
      "Resolved settings as JSON: file < CENOTE_* environment < overrides (\"path=value\").");
  module.def("settings_reference", [] { return settings_reference(); });
  module.def(
      "sha256",
      [](const py::object& data) {
        const Borrowed bytes(data, "data");
        const py::gil_scoped_release release;
        return sha256({bytes.data(), bytes.size_bytes()}).hex();
      },
      py::arg("data"));
  module.def(
      "xxh3_64",
      [](const py::object& data) {
        const Borrowed bytes(data, "data");
        const py::gil_scoped_release release;
        return xxh3_64({bytes.data(), bytes.size_bytes()});
      },
      py::arg("data"));
}

}  // namespace cenote::native
