#include "execute/torch/aliasing.h"

#include <ATen/core/alias_info.h>

#include <algorithm>

namespace cenote::execute {
namespace {

// Operators that may return their input itself although their schema does not say so.
constexpr std::string_view kMayReturnInput[] = {
    "aten::alpha_dropout", "aten::atleast_1d", "aten::atleast_2d", "aten::atleast_3d", "aten::broadcast_tensors",
    "aten::conj_physical", "aten::cpu", "aten::dropout", "aten::einsum", "aten::feature_alpha_dropout",
    "aten::feature_dropout", "aten::lift", "aten::meshgrid", "aten::pad", "aten::repeat", "aten::rrelu", "aten::type_as",
};

// Operators that write running statistics while training, which their schema does not say.
struct HiddenWrite {
  std::string_view base;
  size_t flag;         // Writes unless this argument is false.
  size_t first, last;  // The arguments written.
};
constexpr HiddenWrite kHiddenWrites[] = {
    {"aten::batch_norm", 5, 3, 4}, {"aten::instance_norm", 5, 3, 4}, {"aten::native_batch_norm", 5, 3, 4}};

std::string_view base_name(std::string_view target) { return target.substr(0, target.find('.')); }

bool writes(const c10::AliasInfo& info) {
  return info.isWrite() || std::any_of(info.containedTypes().begin(), info.containedTypes().end(), writes);
}

void collect_sets(const c10::AliasInfo& info, std::vector<c10::Symbol>& sets) {
  sets.insert(sets.end(), info.beforeSets().begin(), info.beforeSets().end());
  for (const c10::AliasInfo& contained : info.containedTypes()) collect_sets(contained, sets);
}

bool share(const c10::AliasInfo* argument, const c10::AliasInfo* result) {
  if (argument == nullptr || result == nullptr) return false;
  std::vector<c10::Symbol> of_argument, of_result;
  collect_sets(*argument, of_argument);
  collect_sets(*result, of_result);
  return std::any_of(of_argument.begin(), of_argument.end(), [&](const c10::Symbol& symbol) {
    return std::find(of_result.begin(), of_result.end(), symbol) != of_result.end();
  });
}

bool is_false(const Argument& argument) {
  return argument.kind == Argument::Kind::kConstant && argument.constant.isBool() && !argument.constant.toBool();
}

}  // namespace

Aliasing::Aliasing(size_t values, size_t roots) : roots_of_(values) {
  for (size_t i = 0; i < roots; ++i) roots_of_[i] = {static_cast<ValueIndex>(i)};
}

std::vector<uint8_t> Aliasing::written_arguments(std::string_view target, const c10::FunctionSchema& schema,
                                                 const std::vector<Argument>& arguments) {
  std::vector<uint8_t> written;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* info = schema.arguments()[i].alias_info();
    if (info != nullptr && writes(*info)) written.push_back(static_cast<uint8_t>(i));
  }
  for (const HiddenWrite& hidden : kHiddenWrites) {
    if (hidden.base != base_name(target) || hidden.last >= arguments.size() || is_false(arguments[hidden.flag])) continue;
    for (size_t i = hidden.first; i <= hidden.last; ++i) written.push_back(static_cast<uint8_t>(i));
  }
  return written;
}

void Aliasing::note_call(std::string_view target, const c10::FunctionSchema& schema, const std::vector<Argument>& arguments,
                         ValueIndex result) {
  const std::string_view base = base_name(target);
  const bool may_return_input =
      std::find(std::begin(kMayReturnInput), std::end(kMayReturnInput), base) != std::end(kMayReturnInput);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* info = schema.arguments()[i].alias_info();
    const bool shared = may_return_input || std::any_of(schema.returns().begin(), schema.returns().end(),
                                                        [&](const c10::Argument& r) { return share(info, r.alias_info()); });
    if (shared) note_item(arguments[i], result);
  }
}

void Aliasing::note_item(const Argument& container, ValueIndex result) {
  std::vector<ValueIndex>& mine = roots_of_[result];
  const std::vector<ValueIndex> more = roots(container);
  mine.insert(mine.end(), more.begin(), more.end());
  std::sort(mine.begin(), mine.end());
  mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
}

std::vector<ValueIndex> Aliasing::roots(const Argument& argument) const {
  std::vector<ValueIndex> found;
  argument.for_each_slot(
      [&](ValueIndex slot) { found.insert(found.end(), roots_of_[slot].begin(), roots_of_[slot].end()); });
  return found;
}

}  // namespace cenote::execute
