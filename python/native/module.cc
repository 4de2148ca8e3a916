// cenote._native: what the Python package cannot do itself. No torch headers; tensors cross by DLPack and buffers.
#include "bind.h"
#include "tensors.h"

PYBIND11_MODULE(_native, module) {
  module.doc() = "Cenote's C++ side for the Python package. Errors are cenote.Error.";
  cenote::native::bind_tensor(module);
  cenote::native::bind_backup(module);
  cenote::native::bind_base(module);
  cenote::native::bind_catalog(module);
  cenote::native::bind_fabric(module);
  cenote::native::bind_client(module);
  cenote::native::bind_controller(module);
  cenote::native::bind_memory(module);
}
