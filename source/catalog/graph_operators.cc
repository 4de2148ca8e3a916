#include <algorithm>

#include "catalog/graph.h"
#include "catalog/operators_text.h"

namespace cenote {
namespace {

// The text before the first of `separators`; `rest` then begins behind it.
std::string_view take_until(std::string_view& rest, std::string_view separators) {
  const size_t end = rest.find_first_of(separators);
  const std::string_view head = rest.substr(0, end);
  rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  return head;
}

}  // namespace

const std::vector<std::string_view>& operators_allowed() {
  static const auto* const allowed = [] {
    auto* names = new std::vector<std::string_view>();
    std::string_view rest = kOperatorsText;
    while (!rest.empty()) {
      std::string_view line = take_until(rest, "\n");
      line = line.substr(0, line.find('#'));
      while (!line.empty()) {
        if (const std::string_view name = take_until(line, " \r\t"); !name.empty()) names->push_back(name);
      }
    }
    std::sort(names->begin(), names->end());
    return names;
  }();
  return *allowed;
}

bool operator_allowed(std::string_view target) {
  const size_t dot = target.find('.');
  const std::string_view base = target.substr(0, dot);
  const std::string_view overload = dot == std::string_view::npos ? "" : target.substr(dot + 1);
  if (overload == "out" || overload.ends_with("_out")) return false;
  return std::binary_search(operators_allowed().begin(), operators_allowed().end(), base);
}

const std::vector<std::string_view>& python_operators() {
  static const auto* const operators = new std::vector<std::string_view>{
      "add", "and",   "ceil", "eq", "float", "floor", "floordiv", "ge",    "getitem", "gt",  "int",  "ite", "le",
      "lt",  "max",   "min",  "mod", "mul",  "ne",    "neg",      "not",   "or",      "pow", "round", "sqrt", "sub",
      "sum", "truediv", "trunc"};
  return *operators;
}

}  // namespace cenote
