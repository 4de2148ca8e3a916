// execute/torch/graph_folder.h - a model as files, for cenote-graph and tests. No block, sum or digest: for files one made oneself.
//
//   model.json   {"tensors": [{"name", "kind", "dtype", "shape", "offset", "size", "gather_only", "mutated"}, ...], "range_bytes",
//                 "signature": {"inputs": [{"name", "dtype", "shape"}, ...], "outputs": [...], "inputs_tree", "outputs_tree"}}
//   graph.json   catalog/graph.h
//   weights.bin  the range
//   *.json + *.bin, tensors of a call: {"tensors": [{"name", "dtype", "shape"}, ...]} and their bytes, one after another
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/manifest.h"
#include "device/device.h"
#include "message/tensor.h"

namespace cenote::execute {

// Page-aligned host memory.
class HostRange {
 public:
  explicit HostRange(size_t size_bytes);
  std::byte* data() const { return bytes_.get(); }
  size_t size() const { return size_bytes_; }
  device::DeviceSpan span() const;

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  size_t size_bytes_;
  std::unique_ptr<std::byte, Free> bytes_;
};

struct GraphFolder {
  Manifest manifest;   // Tensors, signature, graph.
  std::string weights; // Bytes of the range.
};

// kNotFound, kInvalidArgument name the file and what is wrong in it.
absl::StatusOr<GraphFolder> read_graph_folder(const std::string& folder);
absl::StatusOr<std::vector<Tensor>> read_tensors(const std::string& stem);
absl::Status write_tensors(const std::string& stem, const std::vector<Tensor>& tensors);

}  // namespace cenote::execute
