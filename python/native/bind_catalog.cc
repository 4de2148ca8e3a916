// Layout, manifests, graphs and names. Tensors are dicts with the fields of catalog/manifest.h.
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bind.h"
#include "catalog/graph.h"
#include "catalog/layout.h"
#include "catalog/names.h"
#include "convert.h"
#include "raise.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

constexpr std::array<const char*, 4> kKinds = {"", "parameter", "buffer", "constant"};

TensorKind to_kind(const std::string& name) {
  for (size_t i = 1; i < kKinds.size(); ++i) {
    if (name == kKinds[i]) return static_cast<TensorKind>(i);
  }
  raise(absl::InvalidArgumentError(absl::StrCat("tensor kind '", name, "' is none of parameter, buffer, constant")));
}

template <typename T>
T get(const py::dict& dict, const char* key) {
  return py::cast<T>(dict[key]);
}

py::dict to_dict(const TensorEntry& tensor) {
  return py::dict("name"_a = tensor.name, "kind"_a = kKinds[static_cast<size_t>(tensor.kind)],
                  "dtype"_a = std::string(dtype_name(tensor.dtype)), "shape"_a = tensor.shape, "offset_bytes"_a = tensor.offset_bytes,
                  "size_bytes"_a = tensor.size_bytes, "gather_only"_a = tensor.gather_only, "mutated"_a = tensor.mutated);
}

TensorEntry to_tensor(const py::dict& t) {
  return {.name = get<std::string>(t, "name"), .kind = to_kind(get<std::string>(t, "kind")),
          .dtype = check(dtype_from_name(get<std::string>(t, "dtype"))), .shape = get<std::vector<int64_t>>(t, "shape"),
          .offset_bytes = get<uint64_t>(t, "offset_bytes"), .size_bytes = get<uint64_t>(t, "size_bytes"),
          .gather_only = get<bool>(t, "gather_only"), .mutated = get<bool>(t, "mutated")};
}

py::list to_list(const std::vector<BlockEntry>& blocks) {
  py::list list;
  for (const BlockEntry& block : blocks) list.append(py::make_tuple(block.ref.id.hex(), block.ref.size_bytes, block.chunk_sums));
  return list;
}

std::vector<BlockEntry> to_entries(const py::sequence& blocks) {
  std::vector<BlockEntry> entries;
  uint64_t offset = 0;
  for (const py::handle item : blocks) {
    const auto block = py::cast<py::sequence>(item);
    entries.push_back({.ref = {to_digest(py::cast<std::string>(block[0])), py::cast<uint32_t>(block[1])}, .offset_bytes = offset,
                       .chunk_sums = py::cast<std::vector<uint64_t>>(block[2])});
    offset += round_up(entries.back().ref.size_bytes, kBlockAlignBytes);
  }
  return entries;
}

py::list to_list(const std::vector<ValueSpec>& values) {
  py::list list;
  for (const ValueSpec& value : values) {
    list.append(py::dict("name"_a = value.name, "dtype"_a = std::string(dtype_name(value.dtype)), "shape"_a = value.shape));
  }
  return list;
}

std::vector<ValueSpec> to_values(const py::sequence& values) {
  std::vector<ValueSpec> specs;
  for (const py::handle item : values) {
    const auto value = py::cast<py::dict>(item);
    specs.push_back({get<std::string>(value, "name"), check(dtype_from_name(get<std::string>(value, "dtype"))),
                     get<std::vector<int64_t>>(value, "shape")});
  }
  return specs;
}

Signature to_signature(const py::dict& s) {
  return {to_values(s["inputs"]), to_values(s["outputs"]), get<std::string>(s, "inputs_tree"), get<std::string>(s, "outputs_tree")};
}

py::dict lay_out_dict(const py::list& tensors) {
  std::vector<LayoutTensor> wanted;
  for (const py::handle item : tensors) {
    const auto t = py::cast<py::dict>(item);
    wanted.push_back({get<std::string>(t, "name"), to_kind(get<std::string>(t, "kind")), check(dtype_from_name(get<std::string>(t, "dtype"))),
                      get<std::vector<int64_t>>(t, "shape"), get<std::string>(t, "layer"), get<bool>(t, "gather_only"),
                      get<bool>(t, "mutated"), get<std::string>(t, "tied_to")});
  }
  const Layout layout = check(lay_out(wanted));
  py::list entries, blocks;
  for (const TensorEntry& tensor : layout.tensors) entries.append(to_dict(tensor));
  for (const BlockSpan& block : layout.blocks) blocks.append(py::make_tuple(block.offset_bytes, block.size_bytes));
  return py::dict("tensors"_a = entries, "blocks"_a = blocks, "range_bytes"_a = layout.range_bytes);
}

py::bytes encode(const py::dict& m) {
  Manifest manifest{.blocks = to_entries(m["blocks"]), .signature = to_signature(m["signature"]), .graph = get<std::string>(m, "graph")};
  for (const py::handle item : py::cast<py::list>(m["files"])) {
    const auto f = py::cast<py::dict>(item);
    manifest.files.push_back({get<std::string>(f, "name"), get<uint64_t>(f, "size_bytes"), to_entries(f["blocks"])});
  }
  for (const py::handle item : py::cast<py::list>(m["tensors"])) manifest.tensors.push_back(to_tensor(py::cast<py::dict>(item)));
  return py::bytes(encode_manifest(manifest));
}

py::dict decode(const py::bytes& bytes) {
  const Manifest m = check(decode_manifest(std::string_view(bytes)));
  py::list files, tensors, block_offsets;
  for (const BlockEntry& block : m.blocks) block_offsets.append(block.offset_bytes);
  for (const FileEntry& f : m.files) files.append(py::dict("name"_a = f.name, "size_bytes"_a = f.size_bytes, "blocks"_a = to_list(f.blocks)));
  for (const TensorEntry& tensor : m.tensors) tensors.append(to_dict(tensor));
  const py::dict signature("inputs"_a = to_list(m.signature.inputs), "outputs"_a = to_list(m.signature.outputs),
                           "inputs_tree"_a = m.signature.inputs_tree, "outputs_tree"_a = m.signature.outputs_tree);
  return py::dict("blocks"_a = to_list(m.blocks), "block_offsets"_a = block_offsets, "files"_a = files, "tensors"_a = tensors, "signature"_a = signature,
                  "graph"_a = m.graph, "range_bytes"_a = m.range_bytes());
}

}  // namespace

void bind_catalog(py::module_& module) {
  module.def("lay_out", &lay_out_dict, py::arg("tensors"));
  module.def("encode_manifest", &encode, py::arg("manifest"));
  module.def("decode_manifest", &decode, py::arg("bytes"));
  module.def("check_model_name", [](const std::string& name) { check(check_model_name(name)); }, py::arg("name"));
  module.def("check_tag", [](const std::string& tag) { check(check_tag(tag)); }, py::arg("tag"));
}

}  // namespace cenote::native
