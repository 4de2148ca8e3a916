// execute/inputs.h - whether tensors fit a signature. Pure; also fit for whoever wants to refuse before queueing.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "catalog/manifest.h"
#include "message/tensor.h"

namespace cenote::execute {

// The batch that every dynamic dimension agrees on; 1 if there is none. An input without a name is taken by position.
// kInvalidArgument names the input, what came and what is expected.
absl::StatusOr<int64_t> check_inputs(const Signature& signature, const std::vector<Tensor>& inputs);

// Inputs of zeros with this batch.
absl::StatusOr<std::vector<Tensor>> zero_inputs(const Signature& signature, int64_t batch);

}  // namespace cenote::execute
