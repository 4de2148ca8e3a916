// execute/torch/arguments.h - arguments of a graph's node made ready for libtorch's boxed calls: constants converted once, by the
// operator's schema; values taken from slots at each run.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <vector>

#include "absl/status/statusor.h"
#include "catalog/graph.h"

namespace cenote::execute {

// One value of the graph at run time; index by ValueIndex.
using Slots = std::vector<c10::IValue>;

struct Argument {
  enum class Kind : uint8_t {
    kConstant,
    kSlot,
    kSlotAsFloat,          // An integer becomes a double.
    kSlotAsTensor,         // A number becomes a tensor, as Python's numbers do.
    kIntList,
    kFloatList,
    kTensorList,
    kOptionalTensorList,
  };
  struct Item {
    int32_t slot = -1;     // Or, if negative:
    int64_t integer = 0;
    double real = 0;
  };
  Kind kind = Kind::kConstant;
  bool last_use = false;   // The slot's value may be moved from. Only for the kSlot kinds.
  int32_t slot = -1;
  c10::IValue constant;
  std::vector<Item> items;

  bool reads(ValueIndex value) const;
  template <typename Visit>
  void for_each_slot(Visit visit) const {
    if (slot >= 0) visit(static_cast<ValueIndex>(slot));
    for (const Item& item : items) {
      if (item.slot >= 0) visit(static_cast<ValueIndex>(item.slot));
    }
  }
};

// `numbers[v]`: value v may be a number rather than a tensor. kInvalidArgument says which argument does not fit and why; the
// caller adds the operator.
absl::StatusOr<Argument> convert_argument(const GraphArgument& given, const c10::Argument& formal,
                                          const std::vector<bool>& numbers);
// For "py::" targets: numbers and values.
absl::StatusOr<Argument> convert_operand(const GraphArgument& given);

// Pushes the argument's value of this run. Throws c10::Error where a slot holds another type.
void push_argument(const Argument& argument, Slots& slots, std::vector<c10::IValue>& stack);

}  // namespace cenote::execute
