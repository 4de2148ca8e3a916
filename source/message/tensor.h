// message/tensor.h - a host tensor as it crosses processes: dense, row-major, little-endian.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace cenote {

// On the wire and in manifests: append only.
enum class DType : uint8_t {
  kF32 = 1, kF16 = 2, kBf16 = 3, kF64 = 4, kI64 = 5, kI32 = 6, kI16 = 7, kI8 = 8, kU8 = 9, kBool = 10,
};

size_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);  // "f32", "bf16", "i64", "bool", ...
absl::StatusOr<DType> dtype_from_name(std::string_view name);
bool dtype_valid(int value);

struct Tensor {
  std::string name;            // The signature's input or output name.
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // All >= 0.
  std::string bytes;           // product(shape) x dtype_bytes(dtype).
};

// Elements of `shape`; kInvalidArgument if a dimension is negative or the product overflows int64.
absl::StatusOr<int64_t> element_count(const std::vector<int64_t>& shape);
// "f32[1, 3, 224, 224]"; -1 prints as "batch".
std::string describe(DType dtype, const std::vector<int64_t>& shape);
// kInvalidArgument if shape and bytes disagree.
absl::Status check_tensor(const Tensor& tensor);

}  // namespace cenote
