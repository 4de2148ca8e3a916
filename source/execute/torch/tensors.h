// execute/torch/tensors.h - Cenote's tensors as libtorch's, without copies where the bytes may stay.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "catalog/manifest.h"
#include "device/device.h"
#include "message/tensor.h"

namespace cenote::execute {

at::ScalarType scalar_type(DType dtype);
std::optional<DType> dtype_of(at::ScalarType type);
// Names of graphs: those of message/tensor.h, and c64, c128.
std::optional<at::ScalarType> scalar_type_of_name(std::string_view name);

// A view of a manifest's tensor in `weights`. kInvalidArgument if it does not lie inside or is misaligned.
absl::StatusOr<at::Tensor> view_weight(const TensorEntry& entry, device::DeviceSpan weights);

// A view of the message's bytes, which must outlive it and are never written through it.
at::Tensor view_input(const Tensor& input);

// A tensor, or a number as a tensor without dimensions, as dense bytes. kInternal if it is anything else or its dtype is not
// `spec`'s; kResourceExhausted if it has more than `bytes_max` bytes.
absl::StatusOr<Tensor> to_message(const c10::IValue& value, const ValueSpec& spec, size_t bytes_max);

}  // namespace cenote::execute
