#include "execute/torch/graph_folder.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/status.h"
#include "base/text.h"
#include "base/units.h"

namespace cenote::execute {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(str_cat(path, ": cannot be read"));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

absl::StatusOr<Json> read_json(const std::string& path) {
  CENOTE_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(str_cat(path, ": not a JSON object"));
  return json;
}

// Wrong types and missing keys throw inside; callers name the file.
DType dtype(const Json& json) {
  const auto known = dtype_from_name(json.at("dtype").get<std::string>());
  if (!known.ok()) throw std::runtime_error(std::string(known.status().message()));
  return *known;
}

std::vector<ValueSpec> specs(const Json& list) {
  std::vector<ValueSpec> out;
  for (const Json& json : list) {
    out.push_back({.name = json.at("name"), .dtype = dtype(json), .shape = json.at("shape").get<std::vector<int64_t>>()});
  }
  return out;
}

Manifest manifest_of(const Json& model) {
  Manifest manifest;
  for (const Json& json : model.at("tensors")) {
    const std::string kind = json.at("kind");
    manifest.tensors.push_back({.name = json.at("name"),
                                .kind = kind == "parameter" ? TensorKind::kParameter
                                        : kind == "buffer"  ? TensorKind::kBuffer
                                                            : TensorKind::kConstant,
                                .dtype = dtype(json),
                                .shape = json.at("shape").get<std::vector<int64_t>>(),
                                .offset_bytes = json.at("offset"),
                                .size_bytes = json.at("size"),
                                .gather_only = json.at("gather_only"),
                                .mutated = json.at("mutated")});
  }
  const Json& signature = model.at("signature");
  manifest.signature = {.inputs = specs(signature.at("inputs")),
                        .outputs = specs(signature.at("outputs")),
                        .inputs_tree = signature.at("inputs_tree"),
                        .outputs_tree = signature.at("outputs_tree")};
  return manifest;
}

}  // namespace

HostRange::HostRange(size_t size_bytes)
    : size_bytes_(size_bytes),
      bytes_(static_cast<std::byte*>(std::aligned_alloc(kBlockAlignBytes, round_up(std::max<size_t>(size_bytes, 1), kBlockAlignBytes)))) {
  CENOTE_CHECK(bytes_ != nullptr);
}

device::DeviceSpan HostRange::span() const {
  return {.address = device::DeviceAddress{reinterpret_cast<uint64_t>(data())}, .size_bytes = size_bytes_};
}

absl::StatusOr<GraphFolder> read_graph_folder(const std::string& folder) {
  const std::string path = folder + "/model.json";
  CENOTE_ASSIGN_OR_RETURN(const Json model, read_json(path));
  GraphFolder out;
  try {
    out.manifest = manifest_of(model);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(str_cat(path, ": ", error.what()));
  }
  CENOTE_ASSIGN_OR_RETURN(out.manifest.graph, read_file(folder + "/graph.json"));
  CENOTE_ASSIGN_OR_RETURN(out.weights, read_file(folder + "/weights.bin"));
  return out;
}

absl::StatusOr<std::vector<Tensor>> read_tensors(const std::string& stem) {
  const std::string path = stem + ".json";
  CENOTE_ASSIGN_OR_RETURN(const Json json, read_json(path));
  CENOTE_ASSIGN_OR_RETURN(const std::string bytes, read_file(stem + ".bin"));
  std::vector<Tensor> tensors;
  size_t offset = 0;
  try {
    for (const Json& entry : json.at("tensors")) {
      Tensor tensor{.name = entry.at("name"), .dtype = dtype(entry), .shape = entry.at("shape").get<std::vector<int64_t>>()};
      CENOTE_ASSIGN_OR_RETURN(const int64_t count, element_count(tensor.shape));
      const size_t left = bytes.size() - offset;
      if (static_cast<uint64_t>(count) > left / dtype_bytes(tensor.dtype)) {
        return absl::InvalidArgumentError(str_cat(stem, ".bin: ends inside tensor '", tensor.name, "'"));
      }
      tensor.bytes = bytes.substr(offset, static_cast<size_t>(count) * dtype_bytes(tensor.dtype));
      offset += tensor.bytes.size();
      tensors.push_back(std::move(tensor));
    }
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(str_cat(path, ": ", error.what()));
  }
  return tensors;
}

absl::Status write_tensors(const std::string& stem, const std::vector<Tensor>& tensors) {
  Json list = Json::array();
  std::ofstream bytes(stem + ".bin", std::ios::binary);
  for (const Tensor& tensor : tensors) {
    list.push_back({{"name", tensor.name}, {"dtype", std::string(dtype_name(tensor.dtype))}, {"shape", tensor.shape}});
    bytes.write(tensor.bytes.data(), static_cast<std::streamsize>(tensor.bytes.size()));
  }
  std::ofstream json(stem + ".json");
  json << Json{{"tensors", list}}.dump();
  if (!json.flush() || !bytes.flush()) return absl::InternalError(str_cat(stem, ".json, .bin: cannot be written"));
  return absl::OkStatus();
}

}  // namespace cenote::execute
