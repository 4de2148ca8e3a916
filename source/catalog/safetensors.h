// catalog/safetensors.h - the header of a safetensors file (format: github.com/huggingface/safetensors):
// where each tensor lies. Nothing in it is trusted. Pure; reads the header only, never the tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "message/tensor.h"

namespace cenote {

inline constexpr uint64_t kSafetensorsHeaderBytesMax = 16 << 20;

struct SafetensorsView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // In the file.
  uint64_t end = 0;
};

// `start`: at least the header of the file, at most all of it; `file_bytes`: its size. Tensors in the order
// of their bytes. kInvalidArgument names tensor, value and limit: truncated, a header over the limit or not
// JSON, an unknown dtype, a shape that does not have its bytes, tensors that overlap, leave holes or end
// beyond the file.
absl::StatusOr<std::vector<SafetensorsView>> parse_safetensors(std::string_view start, uint64_t file_bytes);

}  // namespace cenote
