// One value against one key of the schema: types, limits, and the sentence that says what is wrong.
#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/nearest.h"
#include "base/settings_schema.h"
#include "base/status.h"
#include "base/text.h"
#include "base/units.h"
#include "base/utf8.h"

namespace cenote {
namespace {

constexpr size_t kTextBytesMax = 4096;
constexpr size_t kEntriesMax = 4096;

absl::Status wrong(std::string_view got, std::string_view remedy) {
  return absl::InvalidArgumentError(str_cat(got, ": ", remedy));
}

std::string quoted(std::string_view text) {
  return str_cat("\"", text.substr(0, 80), text.size() > 80 ? "..." : "", "\"");
}

// The largest unit that says it exactly: "2 GiB", "1500 MiB", "250ms".
std::string exact_bytes(int64_t bytes) {
  static constexpr struct {
    int64_t factor;
    const char* name;
  } kUnits[] = {{1ll << 40, "TiB"}, {1ll << 30, "GiB"}, {1ll << 20, "MiB"}, {1ll << 10, "KiB"}};
  for (const auto& unit : kUnits) {
    if (bytes >= unit.factor && bytes % unit.factor == 0) return str_cat(bytes / unit.factor, " ", unit.name);
  }
  return str_cat(bytes, " B");
}

std::string exact_duration(Duration duration) {
  static constexpr struct {
    int64_t factor;
    const char* name;
  } kUnits[] = {{60'000'000'000, "min"}, {1'000'000'000, "s"}, {1'000'000, "ms"}, {1'000, "us"}};
  for (const auto& unit : kUnits) {
    if (duration.ns >= unit.factor && duration.ns % unit.factor == 0)
      return str_cat(duration.ns / unit.factor, unit.name);
  }
  return str_cat(duration.ns, "ns");
}

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

// `value` in base units against the key's limits.
absl::Status check_limits(const SettingKey& key, double value, std::string_view shown) {
  if (key.min && value < *key.min)
    return wrong(str_cat(shown, " is too small"), str_cat("use ", key.min_text, " to ", key.max_text));
  if (key.max && value > *key.max)
    return wrong(str_cat(shown, " is too large"), str_cat("use ", key.min_text, " to ", key.max_text));
  return absl::OkStatus();
}

absl::StatusOr<SettingValue> convert_integer(const SettingKey& key, const SettingValue& value) {
  const int64_t* number = std::get_if<int64_t>(&value);
  if (number == nullptr) return wrong("not a whole number", str_cat("write one such as ", key.example));
  CENOTE_RETURN_IF_ERROR(check_limits(key, static_cast<double>(*number), str_cat(*number)));
  return *number;
}

absl::StatusOr<SettingValue> convert_number(const SettingKey& key, const SettingValue& value) {
  double number = 0;
  if (const int64_t* whole = std::get_if<int64_t>(&value))
    number = static_cast<double>(*whole);
  else if (const double* real = std::get_if<double>(&value))
    number = *real;
  else
    return wrong("not a number", str_cat("write one such as ", key.example));
  if (!std::isfinite(number)) return wrong("not a finite number", str_cat("write one such as ", key.example));
  CENOTE_RETURN_IF_ERROR(check_limits(key, number, number_text(number)));
  return number;
}

absl::StatusOr<SettingValue> convert_bytes(const SettingKey& key, const SettingValue& value) {
  int64_t bytes = 0;
  if (const int64_t* whole = std::get_if<int64_t>(&value)) {
    bytes = *whole;
  } else if (const std::string* text = std::get_if<std::string>(&value)) {
    CENOTE_ASSIGN_OR_RETURN(const uint64_t parsed, parse_bytes(*text));
    bytes = static_cast<int64_t>(parsed);  // parse_bytes stays below 2^63.
  } else {
    return wrong("not a size", str_cat("write one such as ", key.example));
  }
  CENOTE_RETURN_IF_ERROR(
      check_limits(key, static_cast<double>(bytes), bytes < 0 ? str_cat(bytes) : format_bytes(bytes)));
  return bytes;
}

absl::StatusOr<SettingValue> convert_duration(const SettingKey& key, const SettingValue& value) {
  if (const Duration* duration = std::get_if<Duration>(&value)) return *duration;
  const std::string* text = std::get_if<std::string>(&value);
  if (text == nullptr)
    return wrong("a duration needs its unit", str_cat("write it in quotes, such as ", key.example));
  CENOTE_ASSIGN_OR_RETURN(const Duration duration, parse_duration(*text));
  CENOTE_RETURN_IF_ERROR(check_limits(key, static_cast<double>(duration.ns), *text));
  return duration;
}

bool name_character(char c) {
  return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
}

absl::Status check_text(const SettingKey& key, const std::string& text) {
  if (text.size() > kTextBytesMax)
    return wrong(str_cat(text.size(), " characters"), str_cat("at most ", kTextBytesMax));
  if (!plain_utf8(text)) return wrong("control characters or not UTF-8", "write plain text");
  if (key.type == SettingType::kName) {
    if (text.size() > 63) return wrong(quoted(text), "a name has at most 63 characters");
    for (char c : text) {
      if (!name_character(c) || text.front() == '.')
        return wrong(quoted(text),
                     "a name has letters, digits, '-', '_' and '.' only, and does not begin with '.'");
    }
    if (text.empty() && !key.may_be_empty)
      return wrong("the name is empty", str_cat("write one such as ", key.example));
  }
  if (key.type == SettingType::kHost) {
    if (text.empty() || text.size() > 253)
      return wrong(quoted(text), str_cat("write a host name or address such as ", key.example));
    for (char c : text) {
      if (!absl::ascii_isalnum(c) && c != '.' && c != '-' && c != ':' && c != '_' && c != '%') {
        return wrong(quoted(text),
                     "a host name or address has letters, digits, '.', '-' and ':' only; the port has a key "
                     "of its own");
      }
    }
  }
  if (key.type == SettingType::kPath && text.empty() && !key.may_be_empty)
    return wrong("the path is empty", str_cat("write one such as ", key.example));
  return absl::OkStatus();
}

absl::StatusOr<SettingValue> convert_text(const SettingKey& key, const SettingValue& value) {
  const std::string* text = std::get_if<std::string>(&value);
  if (text == nullptr) return wrong("not text", str_cat("write it in quotes, such as ", key.example));
  CENOTE_RETURN_IF_ERROR(check_text(key, *text));
  if (key.type != SettingType::kEnum) return *text;
  for (const std::string& known : key.values) {
    if (known == *text) return *text;
  }
  return wrong(quoted(*text),
               str_cat("use ", absl::StrJoin(key.values, ", "), did_you_mean(*text, key.values)));
}

absl::StatusOr<SettingValue> convert_group(const SettingKey& key, const SettingValue& value) {
  if (const std::string* text = std::get_if<std::string>(&value);
      text != nullptr && (*text == "layer" || *text == "model"))
    return *text;
  const absl::StatusOr<SettingValue> bytes = convert_bytes(key, value);
  if (!bytes.ok()) return annotate(bytes.status(), "neither \"layer\" nor \"model\"");
  return str_cat(std::get<int64_t>(*bytes));
}

absl::StatusOr<SettingValue> convert_strings(const SettingKey& key, const SettingValue& value) {
  const auto* list = std::get_if<std::vector<std::string>>(&value);
  if (list == nullptr) return wrong("not a list of texts", str_cat("write one such as ", key.example));
  if (list->size() > kEntriesMax)
    return wrong(str_cat(list->size(), " entries"), str_cat("at most ", kEntriesMax));
  for (const std::string& text : *list) {
    if (text.empty()) return wrong("an empty text in the list", "leave it out");
    CENOTE_RETURN_IF_ERROR(check_text(key, text));
  }
  return *list;
}

absl::StatusOr<SettingValue> convert_numbers(const SettingKey& key, const SettingValue& value) {
  const auto* table = std::get_if<std::map<std::string, double>>(&value);
  if (table == nullptr) return wrong("not a table of numbers", str_cat("write one such as ", key.example));
  if (table->size() > kEntriesMax)
    return wrong(str_cat(table->size(), " entries"), str_cat("at most ", kEntriesMax));
  for (const auto& [name, number] : *table) {
    if (!std::isfinite(number))
      return wrong(str_cat(name, " is not finite"), str_cat("write one such as ", key.example));
    CENOTE_RETURN_IF_ERROR(annotate(check_limits(key, number, number_text(number)), name));
  }
  return *table;
}

}  // namespace

absl::StatusOr<SettingValue> convert_setting(const SettingKey& key, const SettingValue& value) {
  switch (key.type) {
    case SettingType::kBoolean:
      if (!std::holds_alternative<bool>(value))
        return wrong("neither true nor false", "write one of them, without quotes");
      return value;
    case SettingType::kInteger:
      return convert_integer(key, value);
    case SettingType::kNumber:
      return convert_number(key, value);
    case SettingType::kBytes:
      return convert_bytes(key, value);
    case SettingType::kDuration:
      return convert_duration(key, value);
    case SettingType::kString:
    case SettingType::kName:
    case SettingType::kHost:
    case SettingType::kPath:
    case SettingType::kEnum:
      return convert_text(key, value);
    case SettingType::kGroup:
      return convert_group(key, value);
    case SettingType::kStrings:
      return convert_strings(key, value);
    case SettingType::kNumbers:
      return convert_numbers(key, value);
  }
  return absl::InternalError("unknown setting type");
}

absl::StatusOr<SettingValue> convert_setting_text(const SettingKey& key, std::string_view text) {
  int64_t whole = 0;
  double real = 0;
  switch (key.type) {
    case SettingType::kBoolean:
      if (text == "true" || text == "1") return true;
      if (text == "false" || text == "0") return false;
      return wrong(quoted(text), "write true or false");
    case SettingType::kInteger:
      if (!absl::SimpleAtoi(to_absl(text), &whole))
        return wrong(quoted(text), str_cat("write a whole number such as ", key.example));
      return convert_setting(key, whole);
    case SettingType::kNumber:
      if (!absl::SimpleAtod(to_absl(text), &real))
        return wrong(quoted(text), str_cat("write a number such as ", key.example));
      return convert_setting(key, real);
    case SettingType::kStrings: {
      std::vector<std::string> list = absl::StrSplit(to_absl(text), ',', absl::SkipEmpty());
      return convert_setting(key, list);
    }
    case SettingType::kNumbers: {
      std::map<std::string, double> table;
      for (absl::string_view entry : absl::StrSplit(to_absl(text), ',', absl::SkipEmpty())) {
        const std::pair<std::string, std::string> parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
        if (parts.first.empty() || !absl::SimpleAtod(parts.second, &real))
          return wrong(quoted(to_std(entry)), "write NAME=NUMBER,NAME=NUMBER");
        table[parts.first] = real;
      }
      return convert_setting(key, table);
    }
    default:
      return convert_setting(key, std::string(text));
  }
}

std::string describe_setting(const SettingKey& key, const SettingValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const int64_t* whole = std::get_if<int64_t>(&value)) {
    return key.type == SettingType::kBytes ? quoted(exact_bytes(*whole)) : str_cat(*whole);
  }
  if (const double* real = std::get_if<double>(&value)) return number_text(*real);
  if (const Duration* duration = std::get_if<Duration>(&value)) return quoted(exact_duration(*duration));
  if (const std::string* text = std::get_if<std::string>(&value)) {
    int64_t size = 0;
    return quoted(key.type == SettingType::kGroup && absl::SimpleAtoi(*text, &size) ? exact_bytes(size)
                                                                                    : *text);
  }
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    return str_cat("[",
                   absl::StrJoin(*list, ", ",
                                 [](std::string* out, const std::string& s) { str_append(out, quoted(s)); }),
                   "]");
  }
  const auto& table = std::get<std::map<std::string, double>>(value);
  if (table.empty()) return "{}";
  return str_cat("{ ",
                 absl::StrJoin(table, ", ",
                               [](std::string* out, const auto& entry) {
                                 str_append(out, entry.first, " = ", number_text(entry.second));
                               }),
                 " }");
}

}  // namespace cenote
