#include "tensors.h"

#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "dlpack.h"
#include "raise.h"

namespace py = pybind11;

namespace cenote::native {
namespace {

struct Kind {
  DType dtype;
  dlpack::Code code;
  uint8_t bits;
  const char* format;  // Buffer protocol; null: it has none.
};
constexpr std::array kKinds = {
    Kind{DType::kF32, dlpack::Code::kFloat, 32, "f"},     Kind{DType::kF16, dlpack::Code::kFloat, 16, "e"},
    Kind{DType::kBf16, dlpack::Code::kBfloat, 16, nullptr}, Kind{DType::kF64, dlpack::Code::kFloat, 64, "d"},
    Kind{DType::kI64, dlpack::Code::kInt, 64, "q"},       Kind{DType::kI32, dlpack::Code::kInt, 32, "i"},
    Kind{DType::kI16, dlpack::Code::kInt, 16, "h"},       Kind{DType::kI8, dlpack::Code::kInt, 8, "b"},
    Kind{DType::kU8, dlpack::Code::kUInt, 8, "B"},        Kind{DType::kBool, dlpack::Code::kBool, 8, "?"}};

const Kind& kind_of(DType dtype) {
  for (const Kind& kind : kKinds) {
    if (kind.dtype == dtype) return kind;
  }
  raise(absl::InternalError(absl::StrCat("dtype ", static_cast<int>(dtype), " is unknown")));
}

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  raise(absl::InvalidArgumentError(absl::StrCat("input '", name, "': ", why)));
}

void destroy_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // Taken: its taker frees it.
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

// What a capsule of ours owns.
struct Exported {
  dlpack::ManagedTensor managed{};
  std::shared_ptr<Tensor> tensor;
};

py::object export_dlpack(const std::shared_ptr<Tensor>& tensor) {
  const Kind& kind = kind_of(tensor->dtype);
  auto exported = std::make_unique<Exported>();
  exported->tensor = tensor;
  exported->managed.tensor = {.data = tensor->bytes.data(),
                              .device = {dlpack::kDeviceCpu, 0},
                              .dimensions = static_cast<int32_t>(tensor->shape.size()),
                              .dtype = {static_cast<uint8_t>(kind.code), kind.bits, 1},
                              .shape = tensor->shape.data(),
                              .strides = nullptr,
                              .byte_offset = 0};
  exported->managed.context = exported.get();
  exported->managed.deleter = [](dlpack::ManagedTensor* managed) { delete static_cast<Exported*>(managed->context); };
  PyObject* capsule = PyCapsule_New(&exported->managed, "dltensor", destroy_capsule);
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::object>(capsule);
}

}  // namespace

Borrowed::Borrowed(const py::handle& object, const std::string& name) {
  if (PyObject_CheckBuffer(object.ptr()) != 0) {
    from_buffer(object, name);
  } else if (py::hasattr(object, "__dlpack__")) {
    from_dlpack(object, name);
  } else {
    refuse(name, absl::StrCat("a ", std::string(py::str(py::type::of(object).attr("__name__"))),
                              " has neither a buffer nor __dlpack__; give a numpy array or a torch tensor"));
  }
}

Borrowed::~Borrowed() {
  if (!owner_) return;
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(owner_.ptr(), "used_dltensor"));
  if (managed != nullptr && managed->deleter != nullptr) managed->deleter(managed);
}

void Borrowed::from_dlpack(const py::handle& object, const std::string& name) {
  const py::object capsule = object.attr("__dlpack__")();
  if (!PyCapsule_IsValid(capsule.ptr(), "dltensor")) refuse(name, "__dlpack__ gave something else than a dltensor");
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  PyCapsule_SetDestructor(capsule.ptr(), nullptr);
  owner_ = capsule;  // From here on the destructor frees it.
  const dlpack::TensorFields& fields = managed->tensor;
  if (fields.device.type != dlpack::kDeviceCpu) refuse(name, "it is not in host memory; move it with .cpu()");
  std::optional<DType> dtype;
  for (const Kind& kind : kKinds) {
    if (static_cast<uint8_t>(kind.code) == fields.dtype.code && kind.bits == fields.dtype.bits && fields.dtype.lanes == 1) {
      dtype = kind.dtype;
    }
  }
  if (!dtype) refuse(name, "its dtype is none of f32 f16 bf16 f64 i64 i32 i16 i8 u8 bool");
  dtype_ = *dtype;
  shape_.assign(fields.shape, fields.shape + fields.dimensions);
  int64_t expected = 1;
  for (int i = fields.dimensions - 1; i >= 0; --i) {
    if (fields.strides != nullptr && shape_[i] > 1 && fields.strides[i] != expected) {
      refuse(name, "it is not contiguous; make it so with .contiguous() or numpy.ascontiguousarray");
    }
    expected *= shape_[i];
  }
  data_ = static_cast<const std::byte*>(fields.data) + fields.byte_offset;
  size_bytes_ = static_cast<size_t>(expected) * dtype_bytes(dtype_);
}

void Borrowed::from_buffer(const py::handle& object, const std::string& name) {
  buffer_ = std::make_unique<py::buffer_info>(py::reinterpret_borrow<py::buffer>(object).request());
  std::string format = buffer_->format;
  if (!format.empty() && (format[0] == '<' || format[0] == '=' || format[0] == '@')) format.erase(0, 1);
  if (format == "l") format = "q";  // 64-bit longs: every system this builds on.
  std::optional<DType> dtype;
  for (const Kind& kind : kKinds) {
    if (kind.format != nullptr && format == kind.format) dtype = kind.dtype;
  }
  if (!dtype) {
    refuse(name, absl::StrCat("element format '", buffer_->format, "' is none of f32 f16 f64 i64 i32 i16 i8 u8 bool"));
  }
  dtype_ = *dtype;
  shape_.assign(buffer_->shape.begin(), buffer_->shape.end());
  int64_t expected = buffer_->itemsize;
  for (ssize_t i = buffer_->ndim - 1; i >= 0; --i) {
    if (buffer_->shape[i] > 1 && buffer_->strides[i] != expected) {
      refuse(name, "it is not contiguous; make it so with numpy.ascontiguousarray");
    }
    expected *= buffer_->shape[i];
  }
  data_ = static_cast<const std::byte*>(buffer_->ptr);
  size_bytes_ = static_cast<size_t>(expected);
}

Tensor Borrowed::copy(const std::string& name) const {
  return {name, dtype_, shape_, std::string(reinterpret_cast<const char*>(data_), size_bytes_)};
}

void bind_tensor(py::module_& module) {
  py::class_<Tensor, std::shared_ptr<Tensor>>(module, "Tensor", py::buffer_protocol(),
                                              "A tensor that came from the cluster: a flat buffer of bytes, and __dlpack__.")
      .def_readonly("name", &Tensor::name)
      .def_property_readonly("dtype", [](const Tensor& tensor) { return std::string(dtype_name(tensor.dtype)); })
      .def_property_readonly("shape", [](const Tensor& tensor) { return py::tuple(py::cast(tensor.shape)); })
      .def("__dlpack__", [](const std::shared_ptr<Tensor>& self, const py::kwargs&) { return export_dlpack(self); })
      .def("__dlpack_device__", [](const Tensor&) { return py::make_tuple(dlpack::kDeviceCpu, 0); })
      .def_buffer([](Tensor& tensor) {
        return py::buffer_info(tensor.bytes.data(), 1, "B", 1, {static_cast<ssize_t>(tensor.bytes.size())}, {ssize_t{1}});
      });
}

}  // namespace cenote::native
