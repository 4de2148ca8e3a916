#include "execute/torch/torch_model.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/zero.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "base/status.h"
#include "base/text.h"
#include "execute/inputs.h"
#include "execute/torch/failures.h"
#include "execute/torch/tensors.h"

namespace cenote::execute {

struct TorchModel::Run {
  const std::vector<Tensor>& inputs;
  const RunOptions& options;
  WeightGate* gate;              // Null once it is complete.
  Duration waited;
  bool beside_transfers = false;
  bool timed = false;            // There is a deadline to look at.
};

namespace {

// How often a run looks at its deadline: a clock read every 16 operators costs less than 2 ns each.
constexpr size_t kDeadlineNodes = 16;

absl::Status too_late() { return absl::DeadlineExceededError("the deadline passed while the model was running"); }

bool overlaps(const at::Tensor& tensor, uint64_t begin, uint64_t size) {
  if (!tensor.defined() || !tensor.has_storage() || tensor.storage().nbytes() == 0 || size == 0) return false;
  const auto address = reinterpret_cast<uint64_t>(tensor.storage().data());
  return address < begin + size && begin < address + tensor.storage().nbytes();
}

}  // namespace

TorchModel::TorchModel(Signature signature, std::unique_ptr<const Program> program, device::DeviceSpan weights, int threads,
                       int threads_beside_transfers)
    : signature_(std::move(signature)),
      program_(std::move(program)),
      weights_(weights),
      threads_(threads),
      threads_beside_transfers_(threads_beside_transfers),
      slots_(program_->graph.value_count()) {
  for (size_t i = 0; i < program_->weights.size(); ++i) slots_[program_->graph.first_weight() + i] = program_->weights[i];
  stack_.reserve(32);
}

absl::StatusOr<std::vector<Tensor>> TorchModel::run(const std::vector<Tensor>& inputs, const RunOptions& options,
                                                    RunStats* stats) {
  const Instant begin = monotonic_now();
  CENOTE_RETURN_IF_ERROR(check_inputs(signature_, inputs).status());
  Run run{.inputs = inputs, .options = options, .gate = options.gate, .timed = options.deadline != Instant::infinite_future()};
  const absl::Cleanup clear = [&] {
    stack_.clear();
    const Graph& graph = program_->graph;
    for (size_t i = 0; i < graph.inputs.size(); ++i) slots_[i] = {};
    for (size_t i = graph.first_node(); i < slots_.size(); ++i) slots_[i] = {};
    for (const PrivateCopy& copy : program_->private_copies) {
      for (ValueIndex slot : copy.slots) slots_[slot] = copy.original;
    }
    if (run.beside_transfers) at::set_num_threads(threads_);
  };
  try {
    const c10::InferenceMode inference;
    run.beside_transfers = run.gate != nullptr && run.gate->transferring();
    const int threads = run.beside_transfers ? threads_beside_transfers_ : threads_;
    if (at::get_num_threads() != threads) at::set_num_threads(threads);
    for (size_t i = 0; i < inputs.size(); ++i) {
      at::Tensor view = view_input(inputs[i]);
      slots_[i] = program_->input_written[i] ? view.clone() : std::move(view);
    }
    CENOTE_RETURN_IF_ERROR(run_nodes(run));
    CENOTE_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, collect_outputs(run));
    if (stats != nullptr) {
      stats->wait = run.waited;
      stats->compute = monotonic_now() - begin - run.waited;
    }
    return outputs;
  } catch (...) {
    return status_of(std::current_exception(), "inputs and outputs of the model");
  }
}

absl::Status TorchModel::run_nodes(Run& run) {
  size_t index = 0;
  try {
    for (; index < program_->nodes.size(); ++index) {
      if (run.timed && index % kDeadlineNodes == 0 && monotonic_now() >= run.options.deadline) return too_late();
      if (run.options.on_node) [[unlikely]] run.options.on_node(index);
      if (absl::Status status = run_node(index, run); !status.ok()) [[unlikely]] return status;
    }
  } catch (...) {
    return status_of(std::current_exception(), describe_node(program_->graph.nodes[index]));
  }
  return absl::OkStatus();
}

absl::Status TorchModel::run_node(size_t index, Run& run) {
  const ProgramNode& node = program_->nodes[index];
  c10::IValue& result = slots_[program_->graph.first_node() + index];
  if (node.needs >= 0) CENOTE_RETURN_IF_ERROR(meet(program_->needs[static_cast<size_t>(node.needs)], run));
  if (run.beside_transfers) choose_threads(run);
  stack_.clear();
  for (const Argument& argument : node.arguments) push_argument(argument, slots_, stack_);
  if (!node.op) {
    absl::StatusOr<c10::IValue> value = apply_python(node.python, stack_);
    if (!value.ok()) return annotate(value.status(), describe_node(program_->graph.nodes[index]));
    result = *std::move(value);
  } else {
    if (!node.written.empty()) CENOTE_RETURN_IF_ERROR(check_written(node, run));
    node.op->callBoxed(&stack_);
    if (node.results == 1) {
      result = std::move(stack_[0]);
    } else if (node.results > 1) {
      result = c10::ivalue::Tuple::create(std::vector<c10::IValue>(stack_.begin(), stack_.end()));
    }
    if (node.zero_result && result.isTensor()) result.toTensor().zero_();
  }
  for (ValueIndex slot : node.free_after) slots_[slot] = {};
  return absl::OkStatus();
}

absl::Status TorchModel::meet(const NodeNeeds& needs, Run& run) {
  if (run.gate != nullptr) {
    if (run.gate->complete()) {
      run.gate = nullptr;
    } else {
      const Instant begin = monotonic_now();
      for (const ByteRange& range : needs.weights) {
        CENOTE_RETURN_IF_ERROR(run.gate->wait(range, run.options.deadline));
      }
      if (needs.gather) CENOTE_RETURN_IF_ERROR(wait_rows(*needs.gather, run));
      run.waited = run.waited + (monotonic_now() - begin);
    }
  }
  for (size_t index : needs.private_copies) {
    const PrivateCopy& copy = program_->private_copies[index];
    const at::Tensor mine = copy.original.clone();
    for (ValueIndex slot : copy.slots) slots_[slot] = mine;
  }
  return absl::OkStatus();
}

absl::Status TorchModel::wait_rows(const GatherWait& gather, Run& run) {
  const c10::IValue& value = slots_[gather.indices];
  if (!value.isTensor() || !at::isIntegralType(value.toTensor().scalar_type(), /*includeBool=*/false)) {
    return run.gate->wait(gather.table, run.options.deadline);  // The operator itself will refuse.
  }
  const at::Tensor indices = value.toTensor().to(at::kLong).contiguous();
  const int64_t* data = indices.const_data_ptr<int64_t>();
  std::vector<int64_t> rows(data, data + indices.numel());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  // Rows outside the table are the operator's to report.
  std::erase_if(rows, [&](int64_t row) { return row < 0 || row >= gather.rows; });
  if (rows.empty()) return absl::OkStatus();
  return run.gate->wait_rows(gather.table, gather.row_bytes, rows, run.options.deadline);
}

// Schemas were consulted when the program was built; this catches an operator that returns its input without saying so.
absl::Status TorchModel::check_written(const ProgramNode& node, const Run& run) const {
  for (uint8_t position : node.written) {
    if (!stack_[position].isTensor()) continue;
    const at::Tensor& tensor = stack_[position].toTensor();
    bool ours = !overlaps(tensor, static_cast<uint64_t>(weights_.address), weights_.size_bytes);
    for (const Tensor& input : run.inputs) {
      ours = ours && !overlaps(tensor, reinterpret_cast<uint64_t>(input.bytes.data()), input.bytes.size());
    }
    if (!ours) {
      const size_t index = static_cast<size_t>(&node - program_->nodes.data());
      return absl::InvalidArgumentError(
          str_cat(describe_node(program_->graph.nodes[index]), ": it would write the model's weights or the caller's input"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Tensor>> TorchModel::collect_outputs(Run& run) {
  if (run.gate != nullptr) {
    for (const ByteRange& range : program_->output_weights) {
      CENOTE_RETURN_IF_ERROR(run.gate->wait(range, run.options.deadline));
    }
  }
  std::vector<Tensor> outputs;
  size_t left = kPayloadBytesMax;
  for (size_t i = 0; i < signature_.outputs.size(); ++i) {
    CENOTE_ASSIGN_OR_RETURN(Tensor output, to_message(slots_[program_->graph.outputs[i]], signature_.outputs[i], left));
    left -= output.bytes.size();
    outputs.push_back(std::move(output));
  }
  return outputs;
}

// Once the last byte has landed, the core that transfers used is compute's.
void TorchModel::choose_threads(Run& run) {
  if (run.gate != nullptr && run.gate->transferring()) return;
  run.beside_transfers = false;
  at::set_num_threads(threads_);
}

absl::Status TorchModel::warm_up() {
  CENOTE_ASSIGN_OR_RETURN(const std::vector<Tensor> inputs, zero_inputs(signature_, 1));
  return run(inputs, {}, nullptr).status();
}

}  // namespace cenote::execute
