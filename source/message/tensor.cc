#include "message/tensor.h"

#include "absl/strings/str_join.h"
#include "base/status.h"

namespace cenote {
namespace {

struct DTypeInfo {
  DType dtype;
  size_t bytes;
  std::string_view name;
};
constexpr DTypeInfo kDTypes[] = {
    {DType::kF32, 4, "f32"}, {DType::kF16, 2, "f16"}, {DType::kBf16, 2, "bf16"}, {DType::kF64, 8, "f64"},
    {DType::kI64, 8, "i64"}, {DType::kI32, 4, "i32"}, {DType::kI16, 2, "i16"},   {DType::kI8, 1, "i8"},
    {DType::kU8, 1, "u8"},   {DType::kBool, 1, "bool"},
};

const DTypeInfo& info(DType dtype) {
  const size_t index = static_cast<size_t>(dtype) - 1;
  CENOTE_CHECK(index < std::size(kDTypes) && kDTypes[index].dtype == dtype);
  return kDTypes[index];
}

}  // namespace

size_t dtype_bytes(DType dtype) { return info(dtype).bytes; }
std::string_view dtype_name(DType dtype) { return info(dtype).name; }
bool dtype_valid(int value) { return value >= 1 && value <= static_cast<int>(std::size(kDTypes)); }

absl::StatusOr<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& known : kDTypes) {
    if (known.name == name) return known.dtype;
  }
  return absl::InvalidArgumentError(
      str_cat("dtype '", name, "': use f32, f16, bf16, f64, i64, i32, i16, i8, u8 or bool"));
}

absl::StatusOr<int64_t> element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count)) {
      return absl::InvalidArgumentError(
          str_cat("shape [", absl::StrJoin(shape, ", "), "]: negative or more than 2^63 elements"));
    }
  }
  return count;
}

std::string describe(DType dtype, const std::vector<int64_t>& shape) {
  return str_cat(dtype_name(dtype), "[", absl::StrJoin(shape, ", ", [](std::string* out, int64_t dim) {
                        dim < 0 ? str_append(out, "batch") : str_append(out, dim);
                      }), "]");
}

absl::Status check_tensor(const Tensor& tensor) {
  CENOTE_ASSIGN_OR_RETURN(const int64_t count, element_count(tensor.shape));
  const size_t item = dtype_bytes(tensor.dtype);
  if (static_cast<uint64_t>(count) > tensor.bytes.size() / item || tensor.bytes.size() != count * item) {
    return absl::InvalidArgumentError(str_cat("tensor '", tensor.name, "': ", tensor.bytes.size(),
                                                   " bytes given, ", describe(tensor.dtype, tensor.shape), " has ",
                                                   count, " elements of ", item, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace cenote
