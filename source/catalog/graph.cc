#include "catalog/graph.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

using Json = nlohmann::json;
using Kind = GraphArgument::Kind;

template <typename... Parts>
absl::Status invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(str_cat("graph: ", parts...));
}

// Bounds on the text itself, before a parser allocates for it.
absl::Status check_text(std::string_view text) {
  if (text.size() > kGraphBytesMax) return invalid(text.size(), " bytes, at most ", kGraphBytesMax);
  int depth = 0;
  size_t elements = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
      continue;
    }
    if (c == '"') quoted = true;
    if (c == '[' || c == '{' || c == ',') ++elements;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kGraphDepthMax) return invalid("nested deeper than ", kGraphDepthMax, " at byte ", i);
  }
  if (elements > kGraphElementsMax) return invalid(elements, " elements, at most ", kGraphElementsMax);
  return absl::OkStatus();
}

class Parser {
 public:
  Parser(const std::vector<TensorEntry>& tensors, const Signature& signature) : tensors_(tensors), signature_(signature) {}

  absl::StatusOr<Graph> parse(std::string_view text) {
    CENOTE_RETURN_IF_ERROR(check_text(text));
    const Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!root.is_object()) return invalid("not a JSON object");
    const auto format = root.find("format"), version = root.find("version");
    if (format == root.end() || *format != "cenote.graph") return invalid("'format' is not \"cenote.graph\"");
    if (version == root.end() || !version->is_number_integer()) return invalid("'version' is missing");
    if (*version != kGraphVersion) {
      return absl::UnimplementedError(str_cat("graph: version ", version->dump(), ", this program reads version ",
                                                   kGraphVersion, "; deploy the model again with matching tools"));
    }
    CENOTE_RETURN_IF_ERROR(read_inputs(root));
    CENOTE_RETURN_IF_ERROR(read_weights(root));
    CENOTE_RETURN_IF_ERROR(read_nodes(root));
    CENOTE_RETURN_IF_ERROR(read_outputs(root));
    return std::move(graph_);
  }

 private:
  static absl::StatusOr<const Json*> list(const Json& object, const char* key, size_t max) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_array()) return invalid("'", key, "' is not a list");
    if (found->size() > max) return invalid("'", key, "' has ", found->size(), " entries, at most ", max);
    return &*found;
  }

  static absl::StatusOr<std::string> name(const Json& json, std::string_view what) {
    if (!json.is_string()) return invalid(what, " is not a string");
    std::string text = json.get<std::string>();
    if (text.empty() || text.size() > kGraphNameBytesMax) {
      return invalid(what, " has ", text.size(), " bytes, 1 to ", kGraphNameBytesMax, " are allowed");
    }
    return text;
  }

  absl::Status define(const std::string& value) {
    const auto next = static_cast<ValueIndex>(values_.size());
    if (!values_.emplace(value, next).second) return invalid("value '", value, "' is defined twice");
    return absl::OkStatus();
  }

  absl::Status read_inputs(const Json& root) {
    CENOTE_ASSIGN_OR_RETURN(const Json* inputs, list(root, "inputs", kGraphNodesMax));
    if (inputs->size() != signature_.inputs.size()) {
      return invalid(inputs->size(), " inputs, the signature has ", signature_.inputs.size());
    }
    for (const Json& input : *inputs) {
      CENOTE_ASSIGN_OR_RETURN(std::string value, name(input, "an input"));
      CENOTE_RETURN_IF_ERROR(define(value));
      graph_.inputs.push_back(std::move(value));
    }
    return absl::OkStatus();
  }

  absl::Status read_weights(const Json& root) {
    CENOTE_ASSIGN_OR_RETURN(const Json* weights, list(root, "weights", kGraphNodesMax));
    absl::flat_hash_map<std::string_view, size_t> by_name;
    for (size_t i = 0; i < tensors_.size(); ++i) by_name.emplace(tensors_[i].name, i);
    for (const Json& weight : *weights) {
      if (!weight.is_array() || weight.size() != 2) return invalid("a weight is not a pair [value, tensor]");
      CENOTE_ASSIGN_OR_RETURN(std::string value, name(weight[0], "a weight's value"));
      CENOTE_ASSIGN_OR_RETURN(const std::string tensor, name(weight[1], "a weight's tensor"));
      const auto found = by_name.find(tensor);
      if (found == by_name.end()) return invalid("weight '", value, "': the manifest has no tensor '", tensor, "'");
      CENOTE_RETURN_IF_ERROR(define(value));
      graph_.weights.push_back(found->second);
      graph_.weight_names.push_back(std::move(value));
    }
    return absl::OkStatus();
  }

  absl::Status read_nodes(const Json& root) {
    CENOTE_ASSIGN_OR_RETURN(const Json* nodes, list(root, "nodes", kGraphNodesMax));
    graph_.nodes.reserve(nodes->size());
    for (const Json& json : *nodes) {
      if (!json.is_object()) return invalid("a node is not an object");
      GraphNode node;
      const auto value = json.find("o"), target = json.find("t");
      if (value == json.end() || target == json.end()) return invalid("node ", graph_.nodes.size(), ": no 'o' or no 't'");
      CENOTE_ASSIGN_OR_RETURN(node.name, name(*value, "a node's value"));
      CENOTE_ASSIGN_OR_RETURN(node.target, name(*target, "a node's target"));
      CENOTE_RETURN_IF_ERROR(check_target(node));
      CENOTE_ASSIGN_OR_RETURN(const Json* arguments, list(json, "a", kNodeArgumentsMax));
      for (const Json& argument : *arguments) {
        CENOTE_ASSIGN_OR_RETURN(node.arguments.emplace_back(), this->argument(argument, node, 0));
      }
      CENOTE_RETURN_IF_ERROR(read_keywords(json, node));
      CENOTE_RETURN_IF_ERROR(define(node.name));  // After its arguments: a node cannot read itself.
      graph_.nodes.push_back(std::move(node));
    }
    return absl::OkStatus();
  }

  absl::Status read_keywords(const Json& json, GraphNode& node) {
    const auto keywords = json.find("k");
    if (keywords == json.end()) return absl::OkStatus();
    if (!keywords->is_object()) return invalid("node ", node.name, ": 'k' is not an object");
    if (keywords->size() > kNodeArgumentsMax) {
      return invalid("node ", node.name, ": ", keywords->size(), " keyword arguments, at most ", kNodeArgumentsMax);
    }
    for (const auto& [key, argument] : keywords->items()) {
      CENOTE_ASSIGN_OR_RETURN(GraphArgument parsed, this->argument(argument, node, 0));
      node.keywords.emplace_back(key, std::move(parsed));
    }
    return absl::OkStatus();
  }

  static absl::Status check_target(const GraphNode& node) {
    if (node.target.starts_with("py::")) {
      const auto& known = python_operators();
      if (std::binary_search(known.begin(), known.end(), std::string_view(node.target).substr(4))) return absl::OkStatus();
    } else if (operator_allowed(node.target)) {
      return absl::OkStatus();
    }
    return absl::UnimplementedError(str_cat("operator '", node.target, "' (node ", node.name,
                                                 "): not on the allow-list of ", operators_allowed().size(),
                                                 " operators; rewrite this part of the model with plain tensor operators"));
  }

  absl::StatusOr<GraphArgument> argument(const Json& json, const GraphNode& node, int depth) {
    GraphArgument out;
    if (json.is_null()) return out;
    if (json.is_boolean()) {
      out.kind = Kind::kBool;
      out.integer = json.get<bool>();
    } else if (json.is_number_unsigned() && json.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
      return invalid("node ", node.name, ": the number ", json.dump(), " does not fit 64 bits");
    } else if (json.is_number_integer()) {
      out.kind = Kind::kInt;
      out.integer = json.get<int64_t>();
    } else if (json.is_number_float()) {
      out.kind = Kind::kFloat;
      out.real = json.get<double>();
    } else if (json.is_string()) {
      out.kind = Kind::kString;
      out.text = json.get<std::string>();
      if (out.text.size() > kGraphNameBytesMax) {
        return invalid("node ", node.name, ": a string of ", out.text.size(), " bytes, at most ", kGraphNameBytesMax);
      }
    } else if (json.is_array()) {
      out.kind = Kind::kList;
      if (json.size() > kGraphListMax) {
        return invalid("node ", node.name, ": a list of ", json.size(), " items, at most ", kGraphListMax);
      }
      out.items.reserve(json.size());
      for (const Json& item : json) {
        CENOTE_ASSIGN_OR_RETURN(out.items.emplace_back(), argument(item, node, depth + 1));
      }
    } else {
      return tagged(json, node);
    }
    return out;
  }

  absl::StatusOr<GraphArgument> tagged(const Json& json, const GraphNode& node) {
    if (!json.is_object() || json.size() != 1) return invalid("node ", node.name, ": an argument is not one tagged value");
    const std::string tag = json.begin().key();
    const Json& body = json.begin().value();
    GraphArgument out;
    if (tag == "c") {
      if (!body.is_array() || body.size() != 2) return invalid("node ", node.name, ": a complex number needs two parts");
      CENOTE_ASSIGN_OR_RETURN(out.real, real(body[0], node));
      CENOTE_ASSIGN_OR_RETURN(out.imaginary, real(body[1], node));
      out.kind = Kind::kComplex;
      return out;
    }
    if (tag == "f") {
      CENOTE_ASSIGN_OR_RETURN(out.real, real(json, node));
      out.kind = Kind::kFloat;
      return out;
    }
    CENOTE_ASSIGN_OR_RETURN(out.text, name(body, str_cat("node ", node.name, ": '", tag, "'")));
    if (tag == "n") {
      const auto found = values_.find(out.text);
      if (found == values_.end()) return invalid("node ", node.name, ": value '", out.text, "' is used before it is defined");
      out.kind = Kind::kValue;
      out.integer = found->second;
      out.text.clear();
      return out;
    }
    if (tag == "dtype") out.kind = Kind::kDType;
    if (tag == "device") out.kind = Kind::kDevice;
    if (tag == "layout") out.kind = Kind::kLayout;
    if (tag == "memory_format") out.kind = Kind::kMemoryFormat;
    if (out.kind == Kind::kNone) return invalid("node ", node.name, ": unknown tag '", tag, "'");
    return out;
  }

  static absl::StatusOr<double> real(const Json& json, const GraphNode& node) {
    if (json.is_number()) return json.get<double>();
    if (json.is_object() && json.size() == 1 && json.contains("f")) {
      const Json& text = json["f"];
      if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
      if (text == "inf") return std::numeric_limits<double>::infinity();
      if (text == "-inf") return -std::numeric_limits<double>::infinity();
    }
    return invalid("node ", node.name, ": a number is neither a number nor nan, inf or -inf");
  }

  absl::Status read_outputs(const Json& root) {
    CENOTE_ASSIGN_OR_RETURN(const Json* outputs, list(root, "outputs", kGraphNodesMax));
    if (outputs->size() != signature_.outputs.size()) {
      return invalid(outputs->size(), " outputs, the signature has ", signature_.outputs.size());
    }
    const GraphNode result{.name = "(outputs)"};
    for (const Json& output : *outputs) {
      CENOTE_ASSIGN_OR_RETURN(const GraphArgument parsed, argument(output, result, 0));
      if (parsed.kind != Kind::kValue) return invalid("an output is not a value");
      graph_.outputs.push_back(static_cast<ValueIndex>(parsed.integer));
    }
    return absl::OkStatus();
  }

  const std::vector<TensorEntry>& tensors_;
  const Signature& signature_;
  absl::flat_hash_map<std::string, ValueIndex> values_;
  Graph graph_;
};

}  // namespace

absl::StatusOr<Graph> parse_graph(std::string_view json, const std::vector<TensorEntry>& tensors,
                                  const Signature& signature) {
  return Parser(tensors, signature).parse(json);
}

absl::StatusOr<GraphInfo> check_graph(std::string_view json, const std::vector<TensorEntry>& tensors,
                                      const Signature& signature) {
  CENOTE_ASSIGN_OR_RETURN(const Graph graph, parse_graph(json, tensors, signature));
  std::set<std::string> operators;
  for (const GraphNode& node : graph.nodes) operators.insert(node.target);
  return GraphInfo{.nodes = graph.nodes.size(), .operators = {operators.begin(), operators.end()}};
}

}  // namespace cenote
