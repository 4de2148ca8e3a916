// The TOML file, walked beside the schema. The only includer of toml++.
#include <toml++/toml.h>

#include "base/nearest.h"
#include "base/settings_impl.h"
#include "base/text.h"
#include "base/units.h"

namespace cenote {
namespace {

struct Walk {
  const std::string& file;
  SettingsTree* tree;
  std::vector<SettingProblem>& problems;

  std::string where(const toml::node& node) const { return str_cat(file, ":", node.source().begin.line); }
  void problem(std::string at, std::string key, std::string text) {
    problems.push_back({std::move(at), std::move(key), std::move(text)});
  }
};

// A TOML value as a SettingValue; empty for dates and what no setting can be (nested lists, lists of
// numbers).
std::optional<SettingValue> plain_value(const toml::node& node) {
  if (const auto* value = node.as_boolean()) return SettingValue(value->get());
  if (const auto* value = node.as_integer()) return SettingValue(value->get());
  if (const auto* value = node.as_floating_point()) return SettingValue(value->get());
  if (const auto* value = node.as_string()) return SettingValue(value->get());
  if (const auto* list = node.as_array()) {
    std::vector<std::string> texts;
    for (const toml::node& item : *list) {
      if (!item.is_string()) return std::nullopt;
      texts.push_back(item.as_string()->get());
    }
    return SettingValue(std::move(texts));
  }
  if (const auto* table = node.as_table()) {
    std::map<std::string, double> numbers;
    for (const auto& [name, item] : *table) {
      const std::optional<double> number = item.value<double>();
      if (!item.is_number() || !number) return std::nullopt;
      numbers[std::string(name.str())] = *number;
    }
    return SettingValue(std::move(numbers));
  }
  return std::nullopt;
}

void walk_table(Walk& walk, const SettingTable& schema, const toml::table& table, const std::string& path);

void walk_child(Walk& walk, const SettingTable& schema, const toml::node& node, const std::string& path) {
  if (!schema.array) {
    if (const toml::table* table = node.as_table()) return walk_table(walk, schema, *table, path + ".");
    return walk.problem(walk.where(node), path,
                        str_cat("not a table: write [", path, "] with its keys below"));
  }
  const toml::array* list = node.as_array();
  if (list == nullptr) {
    return walk.problem(walk.where(node), path,
                        str_cat("there may be several: write [[", path, "]], with two brackets"));
  }
  if (list->size() > static_cast<size_t>(schema.count_max)) {
    return walk.problem(walk.where(node), path, str_cat(list->size(), " tables, at most ", schema.count_max));
  }
  walk.tree->counts[path] = list->size();
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string element = str_cat(path, "[", i, "]");
    if (const toml::table* table = (*list)[i].as_table())
      walk_table(walk, schema, *table, element + ".");
    else
      walk.problem(walk.where((*list)[i]), element, "not a table");
  }
}

void walk_table(Walk& walk, const SettingTable& schema, const toml::table& table, const std::string& path) {
  for (const auto& [toml_key, node] : table) {
    const std::string name(toml_key.str());
    const std::string full = path + name;
    if (const SettingTable* child = schema.table(name)) {
      walk_child(walk, *child, node, full);
    } else if (const SettingKey* key = schema.key(name)) {
      const std::optional<SettingValue> plain = plain_value(node);
      const absl::StatusOr<SettingValue> value =
          plain ? convert_setting(*key, *plain)
                : absl::InvalidArgumentError(
                      str_cat("not a value of type ", key->type_name, ": write one such as ", key->example));
      if (value.ok())
        walk.tree->entries[full] = {key, *value, walk.where(node)};
      else
        walk.problem(walk.where(node), full, std::string(value.status().message()));
    } else {
      const std::string shown = name.size() > 128 ? name.substr(0, 128) + "..." : name;
      walk.problem(str_cat(walk.file, ":", toml_key.source().begin.line), path + shown,
                   str_cat("there is no such setting", did_you_mean(name, schema.names())));
    }
  }
}

}  // namespace

void read_file(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems) {
  if (input.text.size() > kSettingsFileBytesMax) {
    problems.push_back({input.file_name, "",
                        str_cat(format_bytes(input.text.size()), ", a settings file has at most ",
                                format_bytes(kSettingsFileBytesMax))});
    return;
  }
  toml::table table;
  try {
    table = toml::parse(std::string_view(input.text), input.file_name);
  } catch (const toml::parse_error& error) {
    problems.push_back(
        {str_cat(input.file_name, ":", error.source().begin.line, ":", error.source().begin.column), "",
         str_cat("not TOML: ", std::string(error.description()))});
    return;
  }
  Walk walk{input.file_name, &tree, problems};
  walk_table(walk, settings_schema(), table, "");
}

}  // namespace cenote
