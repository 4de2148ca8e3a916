#include "execute/inputs.h"

#include "base/status.h"
#include "base/text.h"
#include "message/infer.h"

namespace cenote::execute {
namespace {

std::string name_list(const std::vector<ValueSpec>& specs) {
  std::string out;
  for (const ValueSpec& spec : specs) {
    str_append(&out, out.empty() ? "" : ", ", "'", spec.name, "' ", describe(spec.dtype, spec.shape));
  }
  return out;
}

absl::Status check_one(const ValueSpec& spec, const Tensor& input, int64_t& batch, std::string& batch_from) {
  const std::string what = str_cat("input '", spec.name, "'");
  if (!input.name.empty() && input.name != spec.name) {
    return absl::InvalidArgumentError(
        str_cat("input '", input.name, "' was given where '", spec.name, "' is expected: check names and order"));
  }
  const auto mismatch = [&](const std::string& why) {
    return absl::InvalidArgumentError(str_cat(what, ": ", describe(input.dtype, input.shape), " given, ",
                                              describe(spec.dtype, spec.shape), " expected", why));
  };
  if (input.dtype != spec.dtype) return mismatch(str_cat("; convert it to ", dtype_name(spec.dtype)));
  if (input.shape.size() != spec.shape.size()) return mismatch("; the number of dimensions differs");
  for (size_t d = 0; d < spec.shape.size(); ++d) {
    if (spec.shape[d] >= 0) {
      if (input.shape[d] != spec.shape[d]) return mismatch(str_cat("; dimension ", d, " differs"));
    } else if (input.shape[d] < 1) {
      return mismatch("; the batch must be at least 1");
    } else if (batch_from.empty()) {
      batch = input.shape[d];
      batch_from = spec.name;
    } else if (input.shape[d] != batch) {
      return mismatch(str_cat("; its batch is ", input.shape[d], ", that of '", batch_from, "' is ", batch));
    }
  }
  return check_tensor(input);
}

}  // namespace

absl::StatusOr<int64_t> check_inputs(const Signature& signature, const std::vector<Tensor>& inputs) {
  if (inputs.size() != signature.inputs.size()) {
    return absl::InvalidArgumentError(str_cat(inputs.size(), " inputs given, ", signature.inputs.size(),
                                              " expected: ", name_list(signature.inputs)));
  }
  int64_t batch = 1;
  std::string batch_from;
  for (size_t i = 0; i < inputs.size(); ++i) {
    CENOTE_RETURN_IF_ERROR(check_one(signature.inputs[i], inputs[i], batch, batch_from));
  }
  return batch;
}

absl::StatusOr<std::vector<Tensor>> zero_inputs(const Signature& signature, int64_t batch) {
  std::vector<Tensor> inputs;
  for (const ValueSpec& spec : signature.inputs) {
    Tensor tensor{.name = spec.name, .dtype = spec.dtype, .shape = spec.shape};
    for (int64_t& dim : tensor.shape) dim = dim < 0 ? batch : dim;
    CENOTE_ASSIGN_OR_RETURN(const int64_t count, element_count(tensor.shape));
    if (static_cast<uint64_t>(count) > kPayloadBytesMax / dtype_bytes(spec.dtype)) {
      return absl::ResourceExhaustedError(str_cat("input '", spec.name, "': ", describe(spec.dtype, tensor.shape),
                                                  " is more than ", kPayloadBytesMax, " bytes"));
    }
    tensor.bytes.assign(static_cast<size_t>(count) * dtype_bytes(spec.dtype), '\0');
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace cenote::execute
