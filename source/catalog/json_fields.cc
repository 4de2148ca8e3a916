#include "catalog/json_fields.h"

#include "base/status.h"

namespace cenote {
namespace {

const nlohmann::json kNothing;

// Deepest nesting of brackets outside of strings.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

absl::StatusOr<nlohmann::json> parse_json(std::string_view text, size_t size_max, int depth_max,
                                          std::string_view what) {
  if (text.size() > size_max)
    return absl::InvalidArgumentError(str_cat(what, ": ", text.size(), " bytes of JSON, at most ", size_max));
  if (const int depth = depth_of(text); depth > depth_max) {
    return absl::InvalidArgumentError(str_cat(what, ": JSON nested ", depth, " deep, at most ", depth_max));
  }
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(str_cat(what, ": not JSON, or not UTF-8"));
  return json;
}

JsonFields::JsonFields(const nlohmann::json& object, std::string_view what) : object_(object), what_(what) {
  if (!object_.is_object()) status_ = absl::InvalidArgumentError(str_cat(what_, ": not a JSON object"));
}

void JsonFields::fail(const char* key, std::string_view why) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(str_cat(what_, ": field '", key, "' ", why));
}

const nlohmann::json* JsonFields::find(const char* key, const char* type,
                                       bool (nlohmann::json::*is)() const noexcept) {
  if (!status_.ok()) return nullptr;
  const auto found = object_.find(key);
  if (found == object_.end()) return fail(key, "is missing"), nullptr;
  if (!((*found).*is)()) return fail(key, str_cat("is not ", type)), nullptr;
  ++asked_;
  return &*found;
}

std::string JsonFields::text(const char* key) {
  const nlohmann::json* value = find(key, "text", &nlohmann::json::is_string);
  return value ? value->get_ref<const std::string&>() : std::string();
}

uint64_t JsonFields::number(const char* key) {
  const nlohmann::json* value = find(key, "a whole number >= 0", &nlohmann::json::is_number_unsigned);
  return value ? value->get<uint64_t>() : 0;
}

bool JsonFields::boolean(const char* key) {
  const nlohmann::json* value = find(key, "true or false", &nlohmann::json::is_boolean);
  return value && value->get<bool>();
}

std::vector<int64_t> JsonFields::integers(const char* key) {
  std::vector<int64_t> numbers;
  for (const nlohmann::json& item : list(key)) {
    // An unsigned number beyond int64 would wrap.
    if (!item.is_number_integer() ||
        (item.is_number_unsigned() && item.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))) {
      fail(key, "has an item that is not a whole number");
      return {};
    }
    numbers.push_back(item.get<int64_t>());
  }
  return numbers;
}

const nlohmann::json& JsonFields::list(const char* key) {
  const nlohmann::json* value = find(key, "a list", &nlohmann::json::is_array);
  return value ? *value : kNothing;
}

const nlohmann::json& JsonFields::object(const char* key) {
  const nlohmann::json* value = find(key, "an object", &nlohmann::json::is_object);
  return value ? *value : kNothing;
}

absl::Status JsonFields::finish() const {
  if (!status_.ok()) return status_;
  if (asked_ != object_.size()) {
    return absl::InvalidArgumentError(str_cat(what_, ": ", object_.size(), " fields, expected ", asked_,
                                              ": a newer Cenote's, or not ours"));
  }
  return absl::OkStatus();
}

}  // namespace cenote
