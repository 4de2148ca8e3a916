// native/bind.h - the faces of cenote._native, one file each. They convert, release the GIL, call, and translate errors.
#pragma once

#include <pybind11/pybind11.h>

namespace cenote::native {

void bind_backup(pybind11::module_& module);
void bind_base(pybind11::module_& module);
void bind_catalog(pybind11::module_& module);
void bind_fabric(pybind11::module_& module);
void bind_client(pybind11::module_& module);
void bind_controller(pybind11::module_& module);
void bind_memory(pybind11::module_& module);

}  // namespace cenote::native
