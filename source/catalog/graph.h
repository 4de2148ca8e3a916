// catalog/graph.h - the computation of a revision: a list of operator calls, checked without libtorch.
//
// Format "cenote.graph", version 1, JSON:
//   {"format": "cenote.graph", "version": 1,
//    "inputs":  [value, ...],                      one per input of the signature, in its order
//    "weights": [[value, tensor], ...],            a value that is a tensor of the manifest, by its name
//    "nodes":   [{"o": value, "t": target, "a": [argument, ...], "k": {name: argument, ...}}, ...]
//    "outputs": [{"n": value}, ...]}               one per output of the signature, in its order
// Every value has one definition, before its first use. A target is "aten::add.Tensor" (schema name, then the overload if it
// has one) or "py::" and one of kPythonOperators. An operator with several results makes one value, read by py::getitem.
// An argument is null, a boolean, a number, a string, a list of arguments, or one of
//   {"n": value}  {"dtype": "f32"}  {"device": "cpu"}  {"layout": "strided"}  {"memory_format": "channels_last"}
//   {"f": "nan" | "inf" | "-inf"}  {"c": [real, imaginary]}
// Types of arguments are the operator's schema's business (execute/torch). The device is a placeholder: the executor's is
// used. A number that the graph computes (a size) may be an output: it becomes a tensor without dimensions.
//
// Nothing of a graph is trusted: size, depth and counts are bounded before anything is built, and each operator must be on
// the allow-list (operators.txt, compiled in).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/manifest.h"

namespace cenote {

inline constexpr int kGraphVersion = 1;
inline constexpr size_t kGraphBytesMax = 32 << 20;
inline constexpr size_t kGraphElementsMax = 4 << 20;     // Commas and brackets of the JSON text.
inline constexpr int kGraphDepthMax = 12;                // Of the JSON text.
inline constexpr size_t kGraphNodesMax = 1 << 18;
inline constexpr size_t kNodeArgumentsMax = 64;
inline constexpr size_t kGraphListMax = 1 << 16;         // Items of one list argument.
inline constexpr size_t kGraphNameBytesMax = 512;

// Position of a value: inputs first, then weights, then one per node.
using ValueIndex = uint32_t;

struct GraphArgument {
  enum class Kind : uint8_t {
    kNone, kBool, kInt, kFloat, kComplex, kString, kValue, kDType, kDevice, kLayout, kMemoryFormat, kList,
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;               // kInt; kBool: 0 or 1; kValue: the ValueIndex.
  double real = 0;                   // kFloat, kComplex.
  double imaginary = 0;              // kComplex.
  std::string text;                  // kString and the tagged names.
  std::vector<GraphArgument> items;  // kList.
};

struct GraphNode {
  std::string name;
  std::string target;                                              // As written.
  std::vector<GraphArgument> arguments;                            // By position.
  std::vector<std::pair<std::string, GraphArgument>> keywords;     // By name; each once.
};

struct Graph {
  std::vector<std::string> inputs;        // Value names.
  std::vector<size_t> weights;            // Index into the manifest's tensors.
  std::vector<std::string> weight_names;  // Value names.
  std::vector<GraphNode> nodes;
  std::vector<ValueIndex> outputs;

  ValueIndex first_weight() const { return static_cast<ValueIndex>(inputs.size()); }
  ValueIndex first_node() const { return static_cast<ValueIndex>(inputs.size() + weights.size()); }
  size_t value_count() const { return inputs.size() + weights.size() + nodes.size(); }
};

struct GraphInfo {
  size_t nodes = 0;
  std::vector<std::string> operators;  // Distinct targets, sorted.
};

// kInvalidArgument says what is wrong and where; kUnimplemented names the operator that is not on the allow-list, or the
// version. What is returned refers only to values, tensors and operators that exist; it does not prove that the operators
// accept their arguments.
absl::StatusOr<Graph> parse_graph(std::string_view json, const std::vector<TensorEntry>& tensors, const Signature& signature);
absl::StatusOr<GraphInfo> check_graph(std::string_view json, const std::vector<TensorEntry>& tensors,
                                      const Signature& signature);

// The allow-list, sorted: "aten::add" admits every overload but those that write to an `out` argument.
const std::vector<std::string_view>& operators_allowed();
bool operator_allowed(std::string_view target);

// Numbers, and results of operators with several: "getitem", "add", ... Sorted.
const std::vector<std::string_view>& python_operators();

}  // namespace cenote
