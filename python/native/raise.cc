#include "raise.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace py = pybind11;

namespace cenote::native {

void raise(const absl::Status& status) {
  std::string code = absl::StatusCodeToString(status.code());
  std::transform(code.begin(), code.end(), code.begin(), [](unsigned char c) { return std::tolower(c); });
  const py::object type = py::module_::import("cenote.errors").attr("Error");
  const py::object error = type(code, std::string(status.message()));
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace cenote::native
