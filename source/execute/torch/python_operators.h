// execute/torch/python_operators.h - the "py::" targets of a graph: arithmetic of sizes with Python's meaning, and items of
// results. Numbers are int64, double or bool; an overflow or a division by zero is an error, never undefined.
#pragma once

#include <ATen/core/ivalue.h>

#include <optional>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"

namespace cenote::execute {

enum class PythonOperator : uint8_t {
  kNone, kGetItem, kSymSize, kSymNumel, kSymStride, kSymStorageOffset,
  kAdd, kSub, kMul, kFloorDiv, kTrueDiv, kMod, kPow, kNeg, kEq, kNe, kLt, kLe, kGt, kGe, kAnd, kOr, kNot,
  kMax, kMin, kSum, kInt, kFloat, kIte, kCeil, kFloor, kTrunc, kRound, kSqrt,
};

// Of a graph's target; kNone if it is an operator of libtorch.
PythonOperator python_operator(std::string_view target);
// How many operands it takes; kSum takes one list, or any number.
size_t operand_count(PythonOperator op);

// kInvalidArgument says what cannot be computed.
absl::StatusOr<c10::IValue> apply_python(PythonOperator op, std::span<const c10::IValue> operands);

}  // namespace cenote::execute
