// execute/torch/aliasing.h - which weights and inputs a value may share memory with, by the operators' schemas; so which of them a
// graph writes.
#pragma once

#include <ATen/core/function_schema.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "execute/torch/arguments.h"

namespace cenote::execute {

class Aliasing {
 public:
  // Values below `roots` are weights and inputs.
  Aliasing(size_t values, size_t roots);

  // Positions of the arguments that the operator writes.
  static std::vector<uint8_t> written_arguments(std::string_view target, const c10::FunctionSchema& schema,
                                                const std::vector<Argument>& arguments);
  // After this call `result` may share memory with what the operator's schema says.
  void note_call(std::string_view target, const c10::FunctionSchema& schema, const std::vector<Argument>& arguments,
                 ValueIndex result);
  void note_item(const Argument& container, ValueIndex result);
  // Roots that the argument may share memory with.
  std::vector<ValueIndex> roots(const Argument& argument) const;

 private:
  std::vector<std::vector<ValueIndex>> roots_of_;
};

}  // namespace cenote::execute
