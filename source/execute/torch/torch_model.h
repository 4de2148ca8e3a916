// execute/torch/torch_model.h - runs a Program: waits for weights node by node, calls operators, frees values early.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "execute/model.h"
#include "execute/torch/program.h"

namespace cenote::execute {

class TorchModel final : public Model {
 public:
  // `threads`: of intra-operator parallelism; `threads_beside_transfers`: while the gate's transfers go on.
  TorchModel(Signature signature, std::unique_ptr<const Program> program, device::DeviceSpan weights, int threads,
             int threads_beside_transfers);

  const Signature& signature() const override { return signature_; }
  absl::StatusOr<std::vector<Tensor>> run(const std::vector<Tensor>& inputs, const RunOptions& options,
                                          RunStats* stats) override;
  absl::Status warm_up() override;
  std::vector<uint64_t> node_weight_ends() const override { return program_->node_weight_ends; }

 private:
  struct Run;  // State of one run.

  absl::Status run_nodes(Run& run);
  absl::Status run_node(size_t index, Run& run);
  absl::Status meet(const NodeNeeds& needs, Run& run);
  absl::Status wait_rows(const GatherWait& gather, Run& run);
  absl::Status check_written(const ProgramNode& node, const Run& run) const;
  absl::StatusOr<std::vector<Tensor>> collect_outputs(Run& run);
  void choose_threads(Run& run);

  const Signature signature_;
  const std::unique_ptr<const Program> program_;
  const device::DeviceSpan weights_;
  const int threads_;
  const int threads_beside_transfers_;
  // Weights stay in their slots between runs; everything else is empty.
  Slots slots_;
  std::vector<c10::IValue> stack_;
};

}  // namespace cenote::execute
