// execute/torch/program.h - a graph made ready to run: operators found, arguments converted, and per node what it waits for, what
// it may free, and what it writes. Built once per model; immutable afterwards.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/graph.h"
#include "device/device.h"
#include "device/weight_gate.h"
#include "execute/torch/arguments.h"
#include "execute/torch/python_operators.h"

namespace cenote::execute {

// An embedding lookup in a gather-only table: needs the rows that its indices name, not the table.
struct GatherWait {
  device::ByteRange table;
  uint64_t row_bytes = 0;
  int64_t rows = 0;
  ValueIndex indices = 0;
};

// What a node does besides computing; most nodes have none.
struct NodeNeeds {
  std::vector<device::ByteRange> weights;    // First read here: wait for them.
  std::optional<GatherWait> gather;
  std::vector<size_t> private_copies;        // Into Program::private_copies: made before the node runs.
};

struct ProgramNode {
  std::optional<c10::OperatorHandle> op;     // Empty: `python`.
  PythonOperator python = PythonOperator::kNone;
  bool zero_result = false;                  // The empty family: never show old memory.
  uint8_t results = 1;
  int32_t needs = -1;                        // Into Program::needs.
  std::vector<Argument> arguments;
  std::vector<ValueIndex> free_after;
  std::vector<uint8_t> written;              // Arguments that the operator writes.
};

// A tensor that the graph writes: each run works on its own copy, so that every request starts from the deployed state.
struct PrivateCopy {
  at::Tensor original;
  std::vector<ValueIndex> slots;             // More than one where it is tied.
};

struct Program {
  Graph graph;                               // Names; arguments are in `nodes`.
  std::vector<ProgramNode> nodes;
  std::vector<NodeNeeds> needs;
  std::vector<PrivateCopy> private_copies;
  std::vector<at::Tensor> weights;           // Per graph.weights.
  std::vector<bool> input_written;           // Per input: the run must own it.
  std::vector<device::ByteRange> output_weights;  // Weights that are outputs themselves.
  std::vector<uint64_t> node_weight_ends;    // See Model::node_weight_ends.
};

// kInvalidArgument: graph and manifest disagree; kUnimplemented: this libtorch lacks an operator.
absl::StatusOr<std::unique_ptr<const Program>> build_program(const Manifest& manifest, device::DeviceSpan weights);

// "operator 'aten::add.Tensor' (node add_1)"
std::string describe_node(const GraphNode& node);

}  // namespace cenote::execute
