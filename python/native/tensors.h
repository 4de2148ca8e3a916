// native/tensors.h - tensors between Python and message/tensor.h: what has __dlpack__ (torch, numpy) or a buffer goes in, an object
// that has both comes out. Only dense row-major CPU memory crosses; cenote/arrays.py makes it so.
#pragma once

#include <memory>
#include <string>

#include <pybind11/pybind11.h>

#include "message/tensor.h"

namespace cenote::native {

// Bytes of a Python object, kept alive as long as this lives. Needs the GIL to be made and destroyed.
class Borrowed {
 public:
  // Raises cenote.Error (invalid_argument, names the input) for another device, a dtype that is not Cenote's, or strides.
  explicit Borrowed(const pybind11::handle& object, const std::string& name);
  ~Borrowed();
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  const std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  Tensor copy(const std::string& name) const;

 private:
  void from_dlpack(const pybind11::handle& object, const std::string& name);
  void from_buffer(const pybind11::handle& object, const std::string& name);

  pybind11::object owner_;                     // The capsule.
  std::unique_ptr<pybind11::buffer_info> buffer_;
  DType dtype_ = DType::kF32;
  std::vector<int64_t> shape_;
  const std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

void bind_tensor(pybind11::module_& module);

}  // namespace cenote::native
