#include "catalog/safetensors.h"

#include <algorithm>
#include <tuple>

#include "base/bytes.h"
#include "base/status.h"
#include "base/text.h"
#include "base/units.h"
#include "base/utf8.h"
#include "catalog/json_fields.h"
#include "catalog/manifest.h"

namespace cenote {
namespace {

absl::Status bad(std::string_view what) {
  return absl::InvalidArgumentError(str_cat("safetensors: ", what));
}

constexpr struct {
  std::string_view name;
  DType dtype;
} kDTypes[] = {{"F64", DType::kF64}, {"F32", DType::kF32},  {"F16", DType::kF16}, {"BF16", DType::kBf16},
               {"I64", DType::kI64}, {"I32", DType::kI32},  {"I16", DType::kI16}, {"I8", DType::kI8},
               {"U8", DType::kU8},   {"BOOL", DType::kBool}};

absl::StatusOr<DType> dtype_of(std::string_view name, std::string_view what) {
  for (const auto& known : kDTypes) {
    if (known.name == name) return known.dtype;
  }
  return bad(str_cat(what, " has dtype '", plain_utf8(name) ? name.substr(0, 20) : "?",
                     "': convert it to F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL"));
}

absl::StatusOr<SafetensorsView> view_of(const std::string& name, const nlohmann::json& item,
                                        uint64_t data_begin, uint64_t data_bytes) {
  if (name.empty() || name.size() > kTensorNameBytesMax || !plain_utf8(name)) {
    return bad(
        str_cat("a tensor's name of ", name.size(), " bytes, plain text of 1 to ", kTensorNameBytesMax));
  }
  const std::string what = str_cat("tensor '", name, "'");
  JsonFields fields(item, str_cat("safetensors: ", what));
  SafetensorsView view{.name = name};
  const std::string dtype = fields.text("dtype");
  view.shape = fields.integers("shape");
  const std::vector<int64_t> offsets = fields.integers("data_offsets");
  CENOTE_RETURN_IF_ERROR(fields.finish());
  CENOTE_ASSIGN_OR_RETURN(view.dtype, dtype_of(dtype, what));
  if (view.shape.size() > kTensorRankMax)
    return bad(str_cat(what, " has ", view.shape.size(), " dimensions, at most ", kTensorRankMax));
  const absl::StatusOr<int64_t> count = element_count(view.shape);
  if (!count.ok()) return bad(str_cat(what, ": ", to_std(count.status().message())));
  if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0] ||
      static_cast<uint64_t>(offsets[1]) > data_bytes) {
    return bad(str_cat(what, ": data_offsets are not a begin and an end within the file's ", data_bytes,
                       " bytes of data: truncated, or damaged"));
  }
  const uint64_t size = static_cast<uint64_t>(offsets[1] - offsets[0]);
  uint64_t expected = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(*count), dtype_bytes(view.dtype), &expected) ||
      expected != size) {
    return bad(str_cat(what, ": ", describe(view.dtype, view.shape), " does not have ", size, " bytes"));
  }
  view.begin = data_begin + offsets[0];
  view.end = data_begin + offsets[1];
  return view;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsView>> parse_safetensors(std::string_view start, uint64_t file_bytes) {
  if (start.size() > file_bytes) return bad(str_cat(start.size(), " bytes given of a file of ", file_bytes));
  ByteReader in(start);
  const uint64_t header_bytes = in.u64();
  if (!in.ok()) return bad(str_cat("a file of ", file_bytes, " bytes has no header"));
  if (header_bytes > kSafetensorsHeaderBytesMax) {
    return bad(str_cat("a header of ", header_bytes, " bytes, at most ", kSafetensorsHeaderBytesMax,
                       ": not a safetensors file, or damaged"));
  }
  if (header_bytes > file_bytes - 8)
    return bad(str_cat("the header has ", header_bytes, " bytes, the file ", file_bytes, ": truncated"));
  if (header_bytes > in.left())
    return bad(str_cat("only ", in.left(), " bytes of a header of ", header_bytes, " given"));
  CENOTE_ASSIGN_OR_RETURN(
      const nlohmann::json header,
      parse_json(start.substr(8, header_bytes), kSafetensorsHeaderBytesMax, 4, "safetensors: header"));
  if (!header.is_object()) return bad("the header is not a JSON object");
  const uint64_t data_begin = 8 + header_bytes, data_bytes = file_bytes - data_begin;
  std::vector<SafetensorsView> views;
  for (const auto& [name, item] : header.items()) {
    if (name == "__metadata__") continue;
    if (views.size() == kTensorsMax) return bad(str_cat("more than ", kTensorsMax, " tensors"));
    CENOTE_ASSIGN_OR_RETURN(SafetensorsView view, view_of(name, item, data_begin, data_bytes));
    views.push_back(std::move(view));
  }
  std::sort(views.begin(), views.end(), [](const SafetensorsView& a, const SafetensorsView& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t end = data_begin;
  for (const SafetensorsView& view : views) {
    if (view.begin < end)
      return bad(str_cat("tensor '", view.name, "' overlaps the one before it at ", view.begin));
    if (view.begin > end)
      return bad(str_cat("nothing covers the ", view.begin - end, " bytes before tensor '", view.name, "'"));
    end = view.end;
  }
  if (end != file_bytes)
    return bad(str_cat("nothing covers the last ", file_bytes - end, " bytes of the file"));
  return views;
}

}  // namespace cenote
