// Section 3 of a manifest: tensors and signature as JSON.
#include "base/status.h"
#include "catalog/json_fields.h"
#include "catalog/manifest_impl.h"

namespace cenote {
namespace {

using Json = nlohmann::json;

constexpr int kDepthMax = 6;

struct KindName {
  TensorKind kind;
  const char* name;
};
constexpr KindName kKinds[] = {{TensorKind::kParameter, "parameter"},
                               {TensorKind::kBuffer, "buffer"},
                               {TensorKind::kConstant, "constant"}};

Json values_json(const std::vector<ValueSpec>& values) {
  Json list = Json::array();
  for (const ValueSpec& value : values) {
    list.push_back({{"name", value.name}, {"dtype", dtype_name(value.dtype)}, {"shape", value.shape}});
  }
  return list;
}

absl::StatusOr<std::vector<ValueSpec>> values_of(const Json& list, std::string_view what) {
  if (list.size() > kValuesMax)
    return absl::InvalidArgumentError(
        str_cat("manifest: ", list.size(), " ", what, "s, at most ", kValuesMax));
  std::vector<ValueSpec> values;
  for (const Json& item : list) {
    JsonFields fields(item, str_cat("manifest: ", what, " ", values.size()));
    ValueSpec value;
    value.name = fields.text("name");
    const std::string dtype = fields.text("dtype");
    value.shape = fields.integers("shape");
    CENOTE_RETURN_IF_ERROR(fields.finish());
    CENOTE_ASSIGN_OR_RETURN(value.dtype, dtype_from_name(dtype));
    values.push_back(std::move(value));
  }
  return values;
}

absl::StatusOr<TensorEntry> tensor_of(const Json& item, size_t index) {
  JsonFields fields(item, str_cat("manifest: tensor ", index));
  TensorEntry tensor;
  tensor.name = fields.text("name");
  const std::string kind = fields.text("kind"), dtype = fields.text("dtype");
  tensor.shape = fields.integers("shape");
  tensor.offset_bytes = fields.number("offset");
  tensor.size_bytes = fields.number("size");
  tensor.gather_only = fields.boolean("gather_only");
  tensor.mutated = fields.boolean("mutated");
  CENOTE_RETURN_IF_ERROR(fields.finish());
  CENOTE_ASSIGN_OR_RETURN(tensor.dtype, dtype_from_name(dtype));
  for (const KindName& known : kKinds) {
    if (kind == known.name) {
      tensor.kind = known.kind;
      return tensor;
    }
  }
  return absl::InvalidArgumentError(
      str_cat("manifest: tensor ", index, ": kind is not parameter, buffer or constant"));
}

}  // namespace

std::string encode_tensor_section(const Manifest& manifest) {
  Json tensors = Json::array();
  for (const TensorEntry& tensor : manifest.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"kind", kKinds[static_cast<size_t>(tensor.kind) - 1].name},
                       {"dtype", dtype_name(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"offset", tensor.offset_bytes},
                       {"size", tensor.size_bytes},
                       {"gather_only", tensor.gather_only},
                       {"mutated", tensor.mutated}});
  }
  const Signature& signature = manifest.signature;
  // Keys come out sorted, so equal manifests have equal bytes.
  return Json{{"tensors", std::move(tensors)},
              {"signature",
               {{"inputs", values_json(signature.inputs)},
                {"outputs", values_json(signature.outputs)},
                {"inputs_tree", signature.inputs_tree},
                {"outputs_tree", signature.outputs_tree}}}}
      .dump();
}

absl::Status decode_tensor_section(std::string_view text, Manifest& manifest) {
  CENOTE_ASSIGN_OR_RETURN(const Json json,
                          parse_json(text, kTensorSectionBytesMax, kDepthMax, "manifest: tensors"));
  JsonFields fields(json, "manifest: tensor section");
  const Json& tensors = fields.list("tensors");
  const Json& signature = fields.object("signature");
  CENOTE_RETURN_IF_ERROR(fields.finish());
  if (tensors.size() > kTensorsMax)
    return absl::InvalidArgumentError(
        str_cat("manifest: ", tensors.size(), " tensors, at most ", kTensorsMax));
  for (const Json& item : tensors) {
    CENOTE_ASSIGN_OR_RETURN(TensorEntry tensor, tensor_of(item, manifest.tensors.size()));
    manifest.tensors.push_back(std::move(tensor));
  }
  JsonFields parts(signature, "manifest: signature");
  const Json& inputs = parts.list("inputs");
  const Json& outputs = parts.list("outputs");
  manifest.signature.inputs_tree = parts.text("inputs_tree");
  manifest.signature.outputs_tree = parts.text("outputs_tree");
  CENOTE_RETURN_IF_ERROR(parts.finish());
  CENOTE_ASSIGN_OR_RETURN(manifest.signature.inputs, values_of(inputs, "input"));
  CENOTE_ASSIGN_OR_RETURN(manifest.signature.outputs, values_of(outputs, "output"));
  return absl::OkStatus();
}

}  // namespace cenote
