#include "execute/torch/program.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/status.h"
#include "base/text.h"
#include "execute/torch/aliasing.h"
#include "execute/torch/tensors.h"

namespace cenote::execute {
namespace {

using device::ByteRange;

bool is_base(std::string_view target, std::string_view base) {
  return target.starts_with(base) && (target.size() == base.size() || target[base.size()] == '.');
}

bool makes_uninitialised(std::string_view target) {
  for (const char* base : {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::empty_permuted",
                           "aten::new_empty", "aten::new_empty_strided"}) {
    if (is_base(target, base)) return true;
  }
  return false;
}

bool may_be_number(std::string_view target) {
  return (target.starts_with("py::") && target != "py::getitem") || target.starts_with("aten::sym_") ||
         is_base(target, "aten::item") || is_base(target, "aten::_local_scalar_dense");
}

class Builder {
 public:
  Builder(const Manifest& manifest, device::DeviceSpan weights) : manifest_(manifest), weights_(weights) {}

  absl::StatusOr<std::unique_ptr<const Program>> build() {
    CENOTE_ASSIGN_OR_RETURN(program_->graph, parse_graph(manifest_.graph, manifest_.tensors, manifest_.signature));
    Graph& graph = program_->graph;
    numbers_.assign(graph.value_count(), false);
    aliasing_.emplace(graph.value_count(), graph.first_node());
    program_->input_written.assign(graph.inputs.size(), false);
    CENOTE_RETURN_IF_ERROR(bind_weights());
    program_->nodes.reserve(graph.nodes.size());
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      if (absl::Status status = add_node(i); !status.ok()) return annotate(status, describe_node(graph.nodes[i]));
      graph.nodes[i].arguments.clear();
      graph.nodes[i].keywords.clear();
    }
    wait_for_outputs();
    find_last_uses();
    return std::unique_ptr<const Program>(std::move(program_));
  }

 private:
  const TensorEntry& entry(ValueIndex value) const {
    return manifest_.tensors[program_->graph.weights[value - program_->graph.first_weight()]];
  }
  bool is_weight(ValueIndex value) const {
    return value >= program_->graph.first_weight() && value < program_->graph.first_node();
  }
  ByteRange range(ValueIndex weight) const {
    return {entry(weight).offset_bytes, entry(weight).offset_bytes + entry(weight).size_bytes};
  }

  absl::Status bind_weights() {
    std::map<std::pair<uint64_t, std::string>, size_t> copies;  // By offset and what it looks like.
    for (size_t i = 0; i < program_->graph.weights.size(); ++i) {
      const auto value = static_cast<ValueIndex>(program_->graph.first_weight() + i);
      const TensorEntry& tensor = entry(value);
      CENOTE_ASSIGN_OR_RETURN(at::Tensor view, view_weight(tensor, weights_));
      program_->weights.push_back(view);
      if (!tensor.mutated) continue;
      const auto [found, added] = copies.try_emplace({tensor.offset_bytes, describe(tensor.dtype, tensor.shape)},
                                                     program_->private_copies.size());
      if (added) program_->private_copies.push_back({.original = view});
      program_->private_copies[found->second].slots.push_back(value);
    }
    copied_.assign(program_->private_copies.size(), false);
    return absl::OkStatus();
  }

  absl::Status add_node(size_t index) {
    const GraphNode& source = program_->graph.nodes[index];
    const auto value = static_cast<ValueIndex>(program_->graph.first_node() + index);
    ProgramNode node;
    node.python = python_operator(source.target);
    CENOTE_RETURN_IF_ERROR(node.python == PythonOperator::kNone ? add_call(source, value, node)
                                                                : add_python(source, value, node));
    numbers_[value] = may_be_number(source.target);
    add_needs(source, node);
    program_->nodes.push_back(std::move(node));
    return absl::OkStatus();
  }

  absl::Status add_python(const GraphNode& source, ValueIndex value, ProgramNode& node) {
    if (!source.keywords.empty()) return absl::InvalidArgumentError("keyword arguments are not taken");
    std::vector<GraphArgument> operands = source.arguments;
    if (node.python == PythonOperator::kSum) {
      if (operands.size() == 1 && operands[0].kind == GraphArgument::Kind::kList) {
        operands = std::vector<GraphArgument>(operands[0].items);
      }
    } else if (operands.size() != operand_count(node.python)) {
      return absl::InvalidArgumentError(
          str_cat(operands.size(), " operands, ", operand_count(node.python), " expected"));
    }
    for (const GraphArgument& operand : operands) {
      CENOTE_ASSIGN_OR_RETURN(node.arguments.emplace_back(), convert_operand(operand));
    }
    if (node.python == PythonOperator::kGetItem) aliasing_->note_item(node.arguments[0], value);
    return absl::OkStatus();
  }

  absl::Status add_call(const GraphNode& source, ValueIndex value, ProgramNode& node) {
    const size_t dot = source.target.find('.');
    const std::string name = source.target.substr(0, dot);
    const std::string overload = dot == std::string::npos ? "" : source.target.substr(dot + 1);
    node.op = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!node.op) return absl::UnimplementedError("this libtorch has no such operator");
    const c10::FunctionSchema& schema = node.op->schema();
    CENOTE_RETURN_IF_ERROR(bind_arguments(source, schema, node));
    node.results = static_cast<uint8_t>(schema.returns().size());
    node.zero_result = makes_uninitialised(source.target);
    node.written = Aliasing::written_arguments(source.target, schema, node.arguments);
    for (uint8_t written : node.written) {
      CENOTE_RETURN_IF_ERROR(note_write(node.arguments[written]));
    }
    aliasing_->note_call(source.target, schema, node.arguments, value);
    return absl::OkStatus();
  }

  absl::Status bind_arguments(const GraphNode& source, const c10::FunctionSchema& schema, ProgramNode& node) {
    size_t keywords_used = 0;
    const auto& formals = schema.arguments();
    for (size_t i = 0; i < formals.size(); ++i) {
      const GraphArgument* given = nullptr;
      if (i < source.arguments.size()) {
        if (formals[i].kwarg_only()) {
          return absl::InvalidArgumentError(str_cat(source.arguments.size(), " positional arguments, at most ", i));
        }
        given = &source.arguments[i];
      }
      for (const auto& [name, argument] : source.keywords) {
        if (name != formals[i].name()) continue;
        if (given != nullptr) return absl::InvalidArgumentError(str_cat("argument '", name, "' is given twice"));
        given = &argument;
        ++keywords_used;
      }
      if (given != nullptr) {
        CENOTE_ASSIGN_OR_RETURN(node.arguments.emplace_back(), convert_argument(*given, formals[i], numbers_));
      } else if (formals[i].default_value()) {
        node.arguments.emplace_back().constant = *formals[i].default_value();
      } else {
        return absl::InvalidArgumentError(str_cat("argument '", formals[i].name(), "' is missing"));
      }
    }
    if (source.arguments.size() > formals.size() || keywords_used != source.keywords.size()) {
      return absl::InvalidArgumentError("more arguments than the operator takes");
    }
    return absl::OkStatus();
  }

  absl::Status note_write(const Argument& argument) {
    for (ValueIndex root : aliasing_->roots(argument)) {
      if (!is_weight(root)) {
        program_->input_written[root] = true;
      } else if (!entry(root).mutated) {
        return absl::InvalidArgumentError(
            str_cat("it writes tensor '", entry(root).name, "', which the manifest does not mark as mutated"));
      }
    }
    return absl::OkStatus();
  }

  void add_needs(const GraphNode& source, ProgramNode& node) {
    NodeNeeds needs;
    const ValueIndex table = gathered_table(source, node);
    for (const Argument& argument : node.arguments) {
      argument.for_each_slot([&](ValueIndex slot) {
        if (!is_weight(slot)) return;
        if (slot == table) {
          if (waited_.contains({range(slot).begin, range(slot).end})) return;
          const TensorEntry& tensor = entry(slot);
          needs.gather = {.table = range(slot),
                          .row_bytes = tensor.size_bytes / static_cast<uint64_t>(tensor.shape[0]),
                          .rows = tensor.shape[0],
                          .indices = static_cast<ValueIndex>(node.arguments[1].slot)};
          return;
        }
        if (waited_.insert({range(slot).begin, range(slot).end}).second && range(slot).end > range(slot).begin) {
          needs.weights.push_back(range(slot));
        }
        note_copies(slot, needs);
      });
    }
    for (const ByteRange& weights : needs.weights) weights_end_ = std::max(weights_end_, weights.end);
    program_->node_weight_ends.push_back(weights_end_);
    if (needs.weights.empty() && !needs.gather && needs.private_copies.empty()) return;
    node.needs = static_cast<int32_t>(program_->needs.size());
    program_->needs.push_back(std::move(needs));
  }

  void note_copies(ValueIndex slot, NodeNeeds& needs) {
    if (!entry(slot).mutated) return;
    for (size_t i = 0; i < program_->private_copies.size(); ++i) {
      const auto& slots = program_->private_copies[i].slots;
      if (copied_[i] || std::find(slots.begin(), slots.end(), slot) == slots.end()) continue;
      copied_[i] = true;
      needs.private_copies.push_back(i);
    }
  }

  // The weight whose rows an embedding lookup reads, if only its rows are needed; else a value that no node reads.
  ValueIndex gathered_table(const GraphNode& source, const ProgramNode& node) const {
    constexpr ValueIndex kNone = ~ValueIndex{0};
    if (!is_base(source.target, "aten::embedding") || node.arguments.size() < 2) return kNone;
    const int32_t table = node.arguments[0].slot, indices = node.arguments[1].slot;
    if (table < 0 || indices < 0 || !is_weight(static_cast<ValueIndex>(table))) return kNone;
    const TensorEntry& tensor = entry(static_cast<ValueIndex>(table));
    const bool by_rows = tensor.gather_only && !tensor.mutated && tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0;
    return by_rows ? static_cast<ValueIndex>(table) : kNone;
  }

  void wait_for_outputs() {
    for (ValueIndex output : program_->graph.outputs) {
      if (is_weight(output)) program_->output_weights.push_back(range(output));
    }
  }

  // Moves or frees each value at its last use. Weights and outputs stay.
  void find_last_uses() {
    const ValueIndex first_node = program_->graph.first_node();
    std::vector<int64_t> last(program_->graph.value_count(), -1);
    std::vector<bool> kept(program_->graph.value_count(), false);
    for (ValueIndex v = program_->graph.first_weight(); v < first_node; ++v) kept[v] = true;
    for (ValueIndex output : program_->graph.outputs) kept[output] = true;
    for (size_t i = 0; i < program_->nodes.size(); ++i) {
      last[first_node + i] = static_cast<int64_t>(i);
      for (const Argument& argument : program_->nodes[i].arguments) {
        argument.for_each_slot([&](ValueIndex slot) { last[slot] = static_cast<int64_t>(i); });
      }
    }
    for (size_t i = 0; i < program_->nodes.size(); ++i) {
      ProgramNode& node = program_->nodes[i];
      std::map<ValueIndex, int> uses;
      for (const Argument& argument : node.arguments) argument.for_each_slot([&](ValueIndex slot) { ++uses[slot]; });
      for (const auto& [slot, count] : uses) {
        if (last[slot] != static_cast<int64_t>(i) || kept[slot]) continue;
        if (!move_only_use(node, slot, count)) node.free_after.push_back(slot);
      }
      const auto value = static_cast<ValueIndex>(first_node + i);
      if (last[value] == static_cast<int64_t>(i) && !kept[value]) node.free_after.push_back(value);
    }
  }

  static bool move_only_use(ProgramNode& node, ValueIndex slot, int count) {
    if (node.python != PythonOperator::kNone || count != 1) return false;
    for (Argument& argument : node.arguments) {
      if (argument.kind == Argument::Kind::kSlot && argument.slot == static_cast<int32_t>(slot)) {
        argument.last_use = true;
        return true;
      }
    }
    return false;
  }

  const Manifest& manifest_;
  device::DeviceSpan weights_;
  std::unique_ptr<Program> program_ = std::make_unique<Program>();
  std::vector<bool> numbers_;
  std::vector<bool> copied_;
  std::set<std::pair<uint64_t, uint64_t>> waited_;
  std::optional<Aliasing> aliasing_;
  uint64_t weights_end_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Program>> build_program(const Manifest& manifest, device::DeviceSpan weights) {
  return Builder(manifest, weights).build();
}

std::string describe_node(const GraphNode& node) { return str_cat("operator '", node.target, "' (node ", node.name, ")"); }

}  // namespace cenote::execute
