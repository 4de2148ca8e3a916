#include "execute/torch/tensors.h"

#include <ATen/ScalarOps.h>
#include <ATen/ops/contiguous.h>
#include <ATen/ops/from_blob.h>

#include "base/status.h"
#include "base/text.h"

namespace cenote::execute {
namespace {

struct Pair {
  DType dtype;
  at::ScalarType type;
};
constexpr Pair kPairs[] = {
    {DType::kF32, at::kFloat}, {DType::kF16, at::kHalf}, {DType::kBf16, at::kBFloat16}, {DType::kF64, at::kDouble},
    {DType::kI64, at::kLong},  {DType::kI32, at::kInt},  {DType::kI16, at::kShort},     {DType::kI8, at::kChar},
    {DType::kU8, at::kByte},   {DType::kBool, at::kBool},
};

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const Pair& pair : kPairs) {
    if (pair.dtype == dtype) return pair.type;
  }
  CENOTE_CHECK(false);
}

std::optional<DType> dtype_of(at::ScalarType type) {
  for (const Pair& pair : kPairs) {
    if (pair.type == type) return pair.dtype;
  }
  return std::nullopt;
}

std::optional<at::ScalarType> scalar_type_of_name(std::string_view name) {
  if (name == "c64") return at::kComplexFloat;
  if (name == "c128") return at::kComplexDouble;
  const absl::StatusOr<DType> dtype = dtype_from_name(name);
  if (!dtype.ok()) return std::nullopt;
  return scalar_type(*dtype);
}

absl::StatusOr<at::Tensor> view_weight(const TensorEntry& entry, device::DeviceSpan weights) {
  CENOTE_ASSIGN_OR_RETURN(const int64_t count, element_count(entry.shape));
  const uint64_t item = dtype_bytes(entry.dtype);
  if (static_cast<uint64_t>(count) > weights.size_bytes / item || entry.size_bytes != count * item ||
      entry.offset_bytes > weights.size_bytes || entry.size_bytes > weights.size_bytes - entry.offset_bytes) {
    return absl::InvalidArgumentError(str_cat("tensor '", entry.name, "': ", describe(entry.dtype, entry.shape), " at ",
                                              entry.offset_bytes, " with ", entry.size_bytes,
                                              " bytes does not lie in a range of ", weights.size_bytes, " bytes"));
  }
  const uint64_t address = static_cast<uint64_t>(weights.address) + entry.offset_bytes;
  if (address % item != 0) {
    return absl::InvalidArgumentError(str_cat("tensor '", entry.name, "': offset ", entry.offset_bytes,
                                              " is not a multiple of its element's ", item, " bytes"));
  }
  return at::from_blob(reinterpret_cast<void*>(address), entry.shape, at::TensorOptions().dtype(scalar_type(entry.dtype)));
}

at::Tensor view_input(const Tensor& input) {
  return at::from_blob(const_cast<char*>(input.bytes.data()), input.shape,
                       at::TensorOptions().dtype(scalar_type(input.dtype)));
}

absl::StatusOr<Tensor> to_message(const c10::IValue& value, const ValueSpec& spec, size_t bytes_max) {
  at::Tensor tensor;
  if (value.isTensor()) {
    tensor = value.toTensor();
  } else if (value.isScalar()) {
    tensor = at::native::wrapped_scalar_tensor(value.toScalar());
  }
  if (!tensor.defined()) {
    return absl::InternalError(str_cat("output '", spec.name, "': the graph made no tensor but ", value.tagKind()));
  }
  if (tensor.scalar_type() != scalar_type(spec.dtype)) {
    return absl::InternalError(str_cat("output '", spec.name, "': the graph made ", c10::toString(tensor.scalar_type()),
                                       ", the signature says ", dtype_name(spec.dtype)));
  }
  if (tensor.nbytes() > bytes_max) {
    return absl::ResourceExhaustedError(
        str_cat("output '", spec.name, "': ", tensor.nbytes(), " bytes, at most ", bytes_max, " fit a reply; use a smaller batch"));
  }
  tensor = tensor.resolve_conj().resolve_neg().contiguous();
  Tensor out{.name = spec.name, .dtype = spec.dtype, .shape = tensor.sizes().vec()};
  out.bytes.assign(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  return out;
}

}  // namespace cenote::execute
