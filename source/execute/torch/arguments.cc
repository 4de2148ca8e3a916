#include "execute/torch/arguments.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/jit_type.h>

#include "base/status.h"
#include "base/text.h"
#include "execute/torch/tensors.h"

namespace cenote::execute {
namespace {

using c10::IValue;
using c10::TypeKind;
using Kind = GraphArgument::Kind;

template <typename... Parts>
absl::Status invalid(const c10::Argument& formal, const Parts&... parts) {
  return absl::InvalidArgumentError(str_cat("argument '", formal.name(), "': ", parts...));
}

bool is_number(const GraphArgument& given) {
  return given.kind == Kind::kBool || given.kind == Kind::kInt || given.kind == Kind::kFloat || given.kind == Kind::kComplex;
}

c10::Scalar number(const GraphArgument& given) {
  switch (given.kind) {
    case Kind::kBool: return c10::Scalar(given.integer != 0);
    case Kind::kInt: return c10::Scalar(given.integer);
    case Kind::kComplex: return c10::Scalar(c10::complex<double>(given.real, given.imaginary));
    default: return c10::Scalar(given.real);
  }
}

double as_double(const GraphArgument& given) {
  return given.kind == Kind::kFloat ? given.real : static_cast<double>(given.integer);
}

std::optional<at::MemoryFormat> memory_format(std::string_view name) {
  if (name == "contiguous_format") return at::MemoryFormat::Contiguous;
  if (name == "preserve_format") return at::MemoryFormat::Preserve;
  if (name == "channels_last") return at::MemoryFormat::ChannelsLast;
  if (name == "channels_last_3d") return at::MemoryFormat::ChannelsLast3d;
  return std::nullopt;
}

// Tagged names, which stand for one constant whatever the schema says; the schema's check follows.
absl::StatusOr<IValue> tagged_constant(const GraphArgument& given, const c10::Argument& formal) {
  if (given.kind == Kind::kDType) {
    const auto type = scalar_type_of_name(given.text);
    if (!type) return invalid(formal, "unknown dtype '", given.text, "'");
    return IValue(static_cast<int64_t>(*type));
  }
  if (given.kind == Kind::kDevice) return IValue(at::Device(at::kCPU));
  if (given.kind == Kind::kLayout) {
    if (given.text != "strided") return invalid(formal, "layout '", given.text, "': only strided tensors are served");
    return IValue(static_cast<int64_t>(at::kStrided));
  }
  const auto format = memory_format(given.text);
  if (!format) return invalid(formal, "unknown memory format '", given.text, "'");
  return IValue(static_cast<int64_t>(*format));
}

absl::StatusOr<Argument> tensor_list(const GraphArgument& given, const c10::Argument& formal, bool optional) {
  Argument out;
  out.kind = optional ? Argument::Kind::kOptionalTensorList : Argument::Kind::kTensorList;
  for (const GraphArgument& item : given.items) {
    if (item.kind == Kind::kValue) {
      out.items.push_back({.slot = static_cast<int32_t>(item.integer)});
    } else if (optional && item.kind == Kind::kNone) {
      out.items.push_back({});
    } else {
      return invalid(formal, "an item of a list of tensors is not a value");
    }
  }
  return out;
}

absl::StatusOr<Argument> number_list(const GraphArgument& given, const c10::Argument& formal, bool real) {
  Argument out;
  bool dynamic = false;
  for (const GraphArgument& item : given.items) {
    if (item.kind == Kind::kValue) {
      dynamic = true;
      out.items.push_back({.slot = static_cast<int32_t>(item.integer)});
    } else if (item.kind == Kind::kInt || item.kind == Kind::kBool || (real && item.kind == Kind::kFloat)) {
      out.items.push_back({.integer = item.integer, .real = as_double(item)});
    } else {
      return invalid(formal, "an item of a list of numbers is not a number");
    }
  }
  if (dynamic) {
    out.kind = real ? Argument::Kind::kFloatList : Argument::Kind::kIntList;
    return out;
  }
  if (real) {
    c10::List<double> list;
    for (const Argument::Item& item : out.items) list.push_back(item.real);
    out.constant = IValue(std::move(list));
  } else {
    c10::List<int64_t> list;
    for (const Argument::Item& item : out.items) list.push_back(item.integer);
    out.constant = IValue(std::move(list));
  }
  out.items.clear();
  return out;
}

absl::StatusOr<Argument> list_argument(const GraphArgument& given, const c10::Argument& formal, const c10::Type& list_type) {
  const c10::TypePtr element = list_type.castRaw<c10::ListType>()->getElementType();
  const bool optional = element->kind() == TypeKind::OptionalType;
  const TypeKind kind = optional ? element->castRaw<c10::OptionalType>()->getElementType()->kind() : element->kind();
  if (kind == TypeKind::TensorType) return tensor_list(given, formal, optional);
  if (kind == TypeKind::IntType || kind == TypeKind::SymIntType) return number_list(given, formal, false);
  if (kind == TypeKind::FloatType) return number_list(given, formal, true);
  if (kind == TypeKind::BoolType) {
    Argument out;
    c10::List<bool> list;
    for (const GraphArgument& item : given.items) {
      if (item.kind != Kind::kBool) return invalid(formal, "an item of a list of booleans is not a boolean");
      list.push_back(item.integer != 0);
    }
    out.constant = IValue(std::move(list));
    return out;
  }
  return invalid(formal, "lists of ", element->str(), " are not served");
}

absl::StatusOr<Argument> convert(const GraphArgument& given, const c10::Argument& formal, const std::vector<bool>& numbers) {
  c10::TypePtr type = formal.real_type();
  if (given.kind == Kind::kNone) return Argument{};
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  Argument out;
  if (given.kind == Kind::kValue) {
    out.slot = static_cast<int32_t>(given.integer);
    const bool may_be_number = numbers[given.integer];
    out.kind = type->kind() == TypeKind::FloatType                     ? Argument::Kind::kSlotAsFloat
               : type->kind() == TypeKind::TensorType && may_be_number ? Argument::Kind::kSlotAsTensor
                                                                       : Argument::Kind::kSlot;
    return out;
  }
  if (type->kind() == TypeKind::ListType) {
    if (given.kind == Kind::kList) return list_argument(given, formal, *type);
    // A number for a list of fixed length means that number each time.
    GraphArgument list{.kind = Kind::kList};
    list.items.assign(formal.N().value_or(1), given);
    return list_argument(list, formal, *type);
  }
  if (given.kind == Kind::kList) return invalid(formal, "a list where ", type->str(), " is expected");
  if (type->kind() == TypeKind::TensorType) {
    if (!is_number(given)) return invalid(formal, "neither a value nor a number where a tensor is expected");
    out.constant = IValue(at::native::wrapped_scalar_tensor(number(given)));
  } else if (type->kind() == TypeKind::FloatType && is_number(given) && given.kind != Kind::kComplex) {
    out.constant = IValue(as_double(given));
  } else if (is_number(given)) {
    out.constant = IValue(number(given));
  } else if (given.kind == Kind::kString) {
    out.constant = IValue(given.text);
  } else {
    CENOTE_ASSIGN_OR_RETURN(out.constant, tagged_constant(given, formal));
  }
  return out;
}

}  // namespace

bool Argument::reads(ValueIndex value) const {
  bool found = false;
  for_each_slot([&](ValueIndex slot) { found = found || slot == value; });
  return found;
}

absl::StatusOr<Argument> convert_argument(const GraphArgument& given, const c10::Argument& formal,
                                          const std::vector<bool>& numbers) {
  CENOTE_ASSIGN_OR_RETURN(Argument out, convert(given, formal, numbers));
  if (out.kind == Argument::Kind::kConstant) {
    const bool fits = out.constant.isTensor() ? c10::TensorType::get()->isSubtypeOf(*formal.type())
                                              : out.constant.type()->isSubtypeOf(*formal.type());
    if (!fits) {
      return invalid(formal, "a ", out.constant.type()->repr_str(), " where ", formal.type()->repr_str(), " is expected");
    }
  }
  return out;
}

absl::StatusOr<Argument> convert_operand(const GraphArgument& given) {
  Argument out;
  if (given.kind == Kind::kValue) {
    out.kind = Argument::Kind::kSlot;
    out.slot = static_cast<int32_t>(given.integer);
  } else if (is_number(given) && given.kind != Kind::kComplex) {
    out.constant = IValue(number(given));
  } else {
    return absl::InvalidArgumentError("an operand is neither a value nor a number");
  }
  return out;
}

void push_argument(const Argument& argument, Slots& slots, std::vector<IValue>& stack) {
  const auto slot = [&](const Argument::Item& item) -> const IValue& { return slots[static_cast<size_t>(item.slot)]; };
  switch (argument.kind) {
    case Argument::Kind::kConstant: stack.push_back(argument.constant); return;
    case Argument::Kind::kSlot: {
      IValue& value = slots[static_cast<size_t>(argument.slot)];
      if (argument.last_use) {
        stack.push_back(std::move(value));
      } else {
        stack.push_back(value);
      }
      return;
    }
    case Argument::Kind::kSlotAsFloat: {
      const IValue& value = slots[static_cast<size_t>(argument.slot)];
      stack.push_back(value.isInt() ? IValue(static_cast<double>(value.toInt())) : value);
      return;
    }
    case Argument::Kind::kSlotAsTensor: {
      const IValue& value = slots[static_cast<size_t>(argument.slot)];
      stack.push_back(value.isScalar() ? IValue(at::native::wrapped_scalar_tensor(value.toScalar())) : value);
      return;
    }
    case Argument::Kind::kIntList: {
      c10::List<int64_t> list;
      list.reserve(argument.items.size());
      for (const auto& item : argument.items) list.push_back(item.slot < 0 ? item.integer : slot(item).toInt());
      stack.emplace_back(std::move(list));
      return;
    }
    case Argument::Kind::kFloatList: {
      c10::List<double> list;
      for (const auto& item : argument.items) list.push_back(item.slot < 0 ? item.real : slot(item).toScalar().toDouble());
      stack.emplace_back(std::move(list));
      return;
    }
    case Argument::Kind::kTensorList: {
      c10::List<at::Tensor> list;
      list.reserve(argument.items.size());
      for (const auto& item : argument.items) list.push_back(slot(item).toTensor());
      stack.emplace_back(std::move(list));
      return;
    }
    case Argument::Kind::kOptionalTensorList: {
      c10::List<std::optional<at::Tensor>> list;
      for (const auto& item : argument.items) {
        list.push_back(item.slot < 0 || slot(item).isNone() ? std::nullopt : std::optional<at::Tensor>(slot(item).toTensor()));
      }
      stack.emplace_back(std::move(list));
      return;
    }
  }
}

}  // namespace cenote::execute
