#include "execute/torch/python_operators.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue_inl.h>

#include <cmath>
#include <string>

#include "base/status.h"
#include "base/text.h"

namespace cenote::execute {
namespace {

using Op = PythonOperator;
using c10::IValue;

struct Named {
  std::string_view name;
  Op op;
};
constexpr Named kNamed[] = {
    {"py::getitem", Op::kGetItem}, {"aten::sym_size.int", Op::kSymSize}, {"aten::sym_numel", Op::kSymNumel},
    {"aten::sym_stride.int", Op::kSymStride}, {"aten::sym_storage_offset", Op::kSymStorageOffset},
    {"py::add", Op::kAdd}, {"py::sub", Op::kSub}, {"py::mul", Op::kMul}, {"py::floordiv", Op::kFloorDiv},
    {"py::truediv", Op::kTrueDiv}, {"py::mod", Op::kMod}, {"py::pow", Op::kPow}, {"py::neg", Op::kNeg},
    {"py::eq", Op::kEq}, {"py::ne", Op::kNe}, {"py::lt", Op::kLt}, {"py::le", Op::kLe}, {"py::gt", Op::kGt},
    {"py::ge", Op::kGe}, {"py::and", Op::kAnd}, {"py::or", Op::kOr}, {"py::not", Op::kNot}, {"py::max", Op::kMax},
    {"py::min", Op::kMin}, {"py::sum", Op::kSum}, {"py::int", Op::kInt}, {"py::float", Op::kFloat},
    {"py::ite", Op::kIte}, {"py::ceil", Op::kCeil}, {"py::floor", Op::kFloor}, {"py::trunc", Op::kTrunc},
    {"py::round", Op::kRound}, {"py::sqrt", Op::kSqrt},
};

bool is_integer(const IValue& v) { return v.isInt() || v.isBool(); }
bool is_number(const IValue& v) { return is_integer(v) || v.isDouble(); }
int64_t integer(const IValue& v) { return v.isBool() ? v.toBool() : v.toInt(); }
double real(const IValue& v) { return v.isDouble() ? v.toDouble() : static_cast<double>(integer(v)); }

absl::Status trouble(std::string_view what) { return absl::InvalidArgumentError(str_cat(what)); }

absl::StatusOr<IValue> rounded(double value) {
  if (!(value > -0x1p63 && value < 0x1p63)) return trouble("a number does not fit 64 bits");
  return IValue(static_cast<int64_t>(value));
}

absl::StatusOr<IValue> integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return IValue(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return trouble("pow overflows 64 bits");
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return trouble("pow overflows 64 bits");
  }
  return IValue(result);
}

absl::StatusOr<IValue> integers(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (op) {
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &out)) return trouble("add overflows 64 bits");
      return IValue(out);
    case Op::kSub:
      if (__builtin_sub_overflow(a, b, &out)) return trouble("sub overflows 64 bits");
      return IValue(out);
    case Op::kMul:
      if (__builtin_mul_overflow(a, b, &out)) return trouble("mul overflows 64 bits");
      return IValue(out);
    case Op::kFloorDiv:
    case Op::kMod: {
      if (b == 0) return trouble("integer division by zero");
      if (b == -1) return op == Op::kMod ? absl::StatusOr<IValue>(IValue(int64_t{0})) : integers(Op::kSub, 0, a);
      const int64_t remainder = a % b;
      const bool down = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds towards minus infinity.
      return op == Op::kMod ? IValue(down ? remainder + b : remainder) : IValue(a / b - down);
    }
    case Op::kPow: return integer_power(a, b);
    case Op::kAnd: return IValue(a & b);
    case Op::kOr: return IValue(a | b);
    default: return trouble("not an operator of integers");
  }
}

absl::StatusOr<IValue> reals(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd: return IValue(a + b);
    case Op::kSub: return IValue(a - b);
    case Op::kMul: return IValue(a * b);
    case Op::kPow: return IValue(std::pow(a, b));
    case Op::kTrueDiv:
    case Op::kFloorDiv:
      if (b == 0) return trouble("division by zero");
      return IValue(op == Op::kTrueDiv ? a / b : std::floor(a / b));
    case Op::kMod: {
      if (b == 0) return trouble("division by zero");
      const double remainder = std::fmod(a, b);
      return IValue(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder);
    }
    default: return trouble("not an operator of real numbers");
  }
}

template <typename T>
IValue compared(Op op, T a, T b) {
  switch (op) {
    case Op::kEq: return IValue(a == b);
    case Op::kNe: return IValue(a != b);
    case Op::kLt: return IValue(a < b);
    case Op::kLe: return IValue(a <= b);
    case Op::kGt: return IValue(a > b);
    default: return IValue(a >= b);
  }
}

absl::StatusOr<IValue> binary(Op op, const IValue& a, const IValue& b) {
  if (!is_number(a) || !is_number(b)) return trouble("an operand is not a number");
  const bool whole = is_integer(a) && is_integer(b);
  if (op >= Op::kEq && op <= Op::kGe) return whole ? compared(op, integer(a), integer(b)) : compared(op, real(a), real(b));
  if (op == Op::kMax || op == Op::kMin) {
    const bool first = whole ? integer(a) >= integer(b) : real(a) >= real(b);
    return first == (op == Op::kMax) ? a : b;
  }
  if ((op == Op::kAnd || op == Op::kOr) && a.isBool() && b.isBool()) {
    return IValue(op == Op::kAnd ? a.toBool() && b.toBool() : a.toBool() || b.toBool());
  }
  if (whole && op != Op::kTrueDiv) return integers(op, integer(a), integer(b));
  return reals(op, real(a), real(b));
}

absl::StatusOr<IValue> unary(Op op, const IValue& a) {
  if (!is_number(a)) return trouble("an operand is not a number");
  switch (op) {
    case Op::kNeg: return is_integer(a) ? integers(Op::kSub, 0, integer(a)) : absl::StatusOr<IValue>(IValue(-real(a)));
    case Op::kNot: return IValue(real(a) == 0);
    case Op::kFloat: return IValue(real(a));
    case Op::kSqrt:
      if (real(a) < 0) return trouble("square root of a negative number");
      return IValue(std::sqrt(real(a)));
    default: break;
  }
  if (is_integer(a)) return IValue(integer(a));
  const double value = real(a);
  if (op == Op::kCeil) return rounded(std::ceil(value));
  if (op == Op::kFloor) return rounded(std::floor(value));
  if (op == Op::kRound) return rounded(std::nearbyint(value));
  return rounded(std::trunc(value));
}

absl::StatusOr<IValue> item(const IValue& container, const IValue& index) {
  if (!index.isInt()) return trouble("getitem: the index is not an integer");
  const auto pick = [&](size_t size) -> absl::StatusOr<size_t> {
    const int64_t i = index.toInt() < 0 ? index.toInt() + static_cast<int64_t>(size) : index.toInt();
    if (i < 0 || static_cast<size_t>(i) >= size) {
      return absl::InvalidArgumentError(str_cat("getitem: index ", index.toInt(), " of ", size, " items"));
    }
    return static_cast<size_t>(i);
  };
  if (container.isTuple()) {
    CENOTE_ASSIGN_OR_RETURN(const size_t i, pick(container.toTupleRef().elements().size()));
    return container.toTupleRef().elements()[i];
  }
  if (container.isList()) {
    const c10::ArrayRef<IValue> items = container.toListRef();
    CENOTE_ASSIGN_OR_RETURN(const size_t i, pick(items.size()));
    return items[i];
  }
  return trouble("getitem: the operand is neither a tuple nor a list");
}

absl::StatusOr<IValue> size(Op op, std::span<const IValue> operands) {
  if (!operands[0].isTensor()) return trouble("the operand of a size is not a tensor");
  const at::Tensor& tensor = operands[0].toTensor();
  if (op == Op::kSymNumel) return IValue(tensor.numel());
  if (op == Op::kSymStorageOffset) return IValue(tensor.storage_offset());
  if (!operands[1].isInt()) return trouble("a dimension is not an integer");
  const int64_t given = operands[1].toInt(), dims = tensor.dim();
  const int64_t dim = given < 0 ? given + dims : given;
  if (dim < 0 || dim >= dims) return absl::InvalidArgumentError(str_cat("dimension ", given, " of a tensor with ", dims));
  return IValue(op == Op::kSymSize ? tensor.size(dim) : tensor.stride(dim));
}

}  // namespace

PythonOperator python_operator(std::string_view target) {
  for (const Named& named : kNamed) {
    if (named.name == target) return named.op;
  }
  return Op::kNone;
}

size_t operand_count(PythonOperator op) {
  switch (op) {
    case Op::kSymNumel: case Op::kSymStorageOffset: case Op::kNeg: case Op::kNot: case Op::kInt: case Op::kFloat:
    case Op::kCeil: case Op::kFloor: case Op::kTrunc: case Op::kRound: case Op::kSqrt: return 1;
    case Op::kIte: return 3;
    default: return 2;
  }
}

absl::StatusOr<IValue> apply_python(PythonOperator op, std::span<const IValue> operands) {
  if (op == Op::kSum) {
    IValue total(int64_t{0});
    for (const IValue& operand : operands) {
      CENOTE_ASSIGN_OR_RETURN(total, binary(Op::kAdd, total, operand));
    }
    return total;
  }
  CENOTE_CHECK(operands.size() == operand_count(op));
  if (op == Op::kGetItem) return item(operands[0], operands[1]);
  if (op >= Op::kSymSize && op <= Op::kSymStorageOffset) return size(op, operands);
  if (op == Op::kIte) {
    if (!is_number(operands[0])) return trouble("the condition is not a number");
    return real(operands[0]) != 0 ? operands[1] : operands[2];
  }
  return operands.size() == 1 ? unary(op, operands[0]) : binary(op, operands[0], operands[1]);
}

}  // namespace cenote::execute
