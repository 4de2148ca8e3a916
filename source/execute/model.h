// execute/model.h - a graph ready to run on one device, and the gate through which its weights arrive.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "catalog/manifest.h"
#include "device/device.h"
#include "device/weight_gate.h"
#include "message/infer.h"

namespace cenote::execute {

using device::ByteRange;
using device::WeightGate;

struct RunOptions {
  Instant deadline = Instant::infinite_future();
  WeightGate* gate = nullptr;  // Null: all weights are there.
  // For calibration and bounds: called with each node's index before it runs. Costs time; null in service.
  std::function<void(size_t node)> on_node;
};

struct RunStats {
  Duration compute;  // Operators.
  Duration wait;     // At the gate.
};

// Thread-compatible: one run at a time.
class Model {
 public:
  virtual ~Model() = default;
  virtual const Signature& signature() const = 0;
  // Inputs in the signature's order. kInvalidArgument names the input, what came and what is expected (name, dtype, shape,
  // count; every dynamic dimension must agree), or an operator's complaint about a value or index (a token outside the
  // vocabulary). Gate errors pass through. kDeadlineExceeded between operators. kResourceExhausted: no memory, or outputs of
  // more than kPayloadBytesMax. kInternal: an operator threw. All that come from an operator name it and its node.
  // Every run starts from the deployed state: what a graph writes to its buffers lasts until the run ends, so a request
  // may be repeated anywhere.
  virtual absl::StatusOr<std::vector<Tensor>> run(const std::vector<Tensor>& inputs, const RunOptions& options,
                                                  RunStats* stats) = 0;
  // Runs once on zeros of the smallest shapes after the weights are there, so that kernels are warm.
  virtual absl::Status warm_up() = 0;
  // For bounds: per node, the end of the weights it and its predecessors need (prefix of the range).
  virtual std::vector<uint64_t> node_weight_ends() const = 0;
};

struct EngineOptions {
  int threads = 0;             // Of intra-operator parallelism; 0: cores - 1, at least 1.
};

// One per process: sets libtorch's thread count. While a gate's transfers go on, runs leave one core to them.
class Engine {
 public:
  virtual ~Engine() = default;
  // Tensors are views of `weights` (the revision's whole range; borrowed: must outlive the Model). Does not wait for bytes.
  // kUnimplemented names the operator that is not on the allow-list or not in this libtorch; kInvalidArgument: graph and
  // manifest disagree, or an operator would write a tensor that the manifest does not mark as mutated.
  virtual absl::StatusOr<std::unique_ptr<Model>> load(const Manifest& manifest, device::DeviceSpan weights) = 0;
};

// Opens the plug-in cenote_torch.so, which brings libtorch into the process for good. `path` empty: lib/ beside the program's bin/.
// kNotFound: no such file; kFailedPrecondition: it, or a library it needs, does not load, or it is another version's.
// Not thread-safe before the first one returned: sets OMP_WAIT_POLICY=passive in the environment unless it is set, which libtorch's
// OpenMP library reads as it is loaded. (Threads that spin between operators take the cores of whoever shares them.)
absl::StatusOr<std::unique_ptr<Engine>> open_engine(const EngineOptions& options, const std::string& path = "");

}  // namespace cenote::execute
