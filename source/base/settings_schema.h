// base/settings_schema.h - settings/schema.json as structs. It is the one source of every key, type, default
// and limit: the checks, the defaults in C++ and settings/REFERENCE.md are all derived from it. Embedded at
// build time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace cenote {

enum class SettingType {
  kBoolean,
  kInteger,
  kNumber,
  kBytes,
  kDuration,
  kString,
  kName,
  kHost,
  kPath,
  kEnum,
  kGroup,    // "layer", "model" or a size.
  kStrings,  // An array of strings.
  kNumbers,  // A table of numbers by name.
};

// Integers hold bytes and whole numbers alike; text types are strings.
using SettingValue = std::variant<bool, int64_t, double, Duration, std::string, std::vector<std::string>,
                                  std::map<std::string, double>>;

struct SettingKey {
  std::string name;
  SettingType type = SettingType::kString;
  std::string type_name;            // As the schema writes it.
  SettingValue fallback;            // The default; "{index}" in text stands for the array index.
  std::optional<double> min, max;   // In the type's base unit: bytes, nanoseconds, or the number itself.
  std::string min_text, max_text;   // As people read them.
  std::vector<std::string> values;  // kEnum.
  bool may_be_empty = false;        // Text whose default is "".
  std::string unit, description, example, default_text;
};

struct SettingTable {
  std::string name;
  std::string description;
  bool array = false;                    // [[name]], else [name].
  int64_t count_min = 0, count_max = 1;  // Of an array's tables.
  std::vector<SettingKey> keys;
  std::vector<SettingTable> tables;

  const SettingKey* key(std::string_view name) const;
  const SettingTable* table(std::string_view name) const;
  std::vector<std::string> names() const;  // Of keys and tables.
};

// The embedded schema; its root table has no name. A malformed schema aborts: it is part of the program.
const SettingTable& settings_schema();

// Checks `value` against the key's type, limits and values, converting text and integers where the type asks
// for it ("2 GiB", 64). kInvalidArgument: what is wrong, the limit and the remedy, without the key's name.
absl::StatusOr<SettingValue> convert_setting(const SettingKey& key, const SettingValue& value);

// The same from plain text, as environment and flags have it. kStrings: "a,b". kNumbers: "a=1,b=2.5".
absl::StatusOr<SettingValue> convert_setting_text(const SettingKey& key, std::string_view text);

// As TOML would write it.
std::string describe_setting(const SettingKey& key, const SettingValue& value);

}  // namespace cenote
