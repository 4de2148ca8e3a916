// Goal: whatever bytes come as a graph, checking ends without harm, and a graph that is taken refers only to
// what exists.
#include <cstdlib>
#include <string_view>

#include "base/status.h"
#include "catalog/graph.h"

namespace {

using cenote::GraphArgument;

void check_argument(const GraphArgument& argument, const cenote::Graph& graph, size_t node) {
  if (argument.kind == GraphArgument::Kind::kValue) {
    CENOTE_CHECK(argument.integer >= 0 && static_cast<size_t>(argument.integer) < graph.first_node() + node);
  }
  CENOTE_CHECK(argument.items.size() <= cenote::kGraphListMax);
  for (const GraphArgument& item : argument.items) check_argument(item, graph, node);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The signature that the corpus has: one input, one output, one tensor.
  static const std::vector<cenote::TensorEntry> tensors = {{.name = "w", .shape = {4}, .size_bytes = 16}};
  static const cenote::Signature signature{.inputs = {{.name = "x", .shape = {-1, 4}}},
                                           .outputs = {{.name = "y", .shape = {-1, 4}}}};
  const auto graph = cenote::parse_graph(text, tensors, signature);
  const auto info = cenote::check_graph(text, tensors, signature);
  CENOTE_CHECK(graph.ok() == info.ok());
  if (!graph.ok()) {
    CENOTE_CHECK(!graph.status().message().empty());
    return 0;
  }
  CENOTE_CHECK(graph->inputs.size() == 1 && graph->outputs.size() == 1);
  for (size_t weight : graph->weights) CENOTE_CHECK(weight < tensors.size());
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    const cenote::GraphNode& node = graph->nodes[i];
    CENOTE_CHECK(node.target.starts_with("py::") || cenote::operator_allowed(node.target));
    for (const GraphArgument& argument : node.arguments) check_argument(argument, *graph, i);
    for (const auto& [name, argument] : node.keywords) check_argument(argument, *graph, i);
  }
  for (cenote::ValueIndex output : graph->outputs) CENOTE_CHECK(output < graph->value_count());
  return 0;
}
