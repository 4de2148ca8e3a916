// native/dlpack.h - the structs of the DLPack exchange, version 0 capsules ("dltensor"), as its public specification lays them out.
// numpy and torch both speak it; so tensors cross without either's headers.
#pragma once

#include <cstdint>

namespace cenote::dlpack {

inline constexpr int32_t kDeviceCpu = 1;

enum class Code : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kOpaque = 3, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Device {
  int32_t type;
  int32_t id;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct TensorFields {
  void* data;
  Device device;
  int32_t dimensions;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // In elements; null: row-major and dense.
  uint64_t byte_offset;
};

struct ManagedTensor {
  TensorFields tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

}  // namespace cenote::dlpack
