// Environment and flags: names resolved against the schema, then expanded over the tables that the file has.
#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/nearest.h"
#include "base/settings_impl.h"
#include "base/text.h"

namespace cenote {
namespace {

// The tables on the way to a key, with the index where one was given.
struct Step {
  const SettingTable* table = nullptr;
  std::optional<size_t> index;
};
struct Selection {
  std::vector<Step> steps;
  const SettingKey* key = nullptr;
};

// All full paths that `selection` means. False, with `problem`, if an index is beyond the file's tables.
bool expand(const SettingsTree& tree, const Selection& selection, std::vector<std::string>& paths,
            std::string& problem) {
  paths = {""};
  for (const Step& step : selection.steps) {
    std::vector<std::string> next;
    for (const std::string& prefix : paths) {
      const std::string path = prefix + step.table->name;
      if (!step.table->array) {
        next.push_back(path + ".");
        continue;
      }
      const auto found = tree.counts.find(path);
      const size_t count = found == tree.counts.end() ? 0 : found->second;
      if (step.index && *step.index >= count) {
        problem = str_cat("there are ", count, " [[", path, "]] tables, counted from 0");
        return false;
      }
      for (size_t i = step.index.value_or(0); i < (step.index ? *step.index + 1 : count); ++i) {
        next.push_back(str_cat(path, "[", i, "]."));
      }
    }
    paths = std::move(next);
  }
  for (std::string& path : paths) path += selection.key->name;
  return true;
}

void apply(SettingsTree& tree, const Selection& selection, std::string_view text, const std::string& where,
           const std::string& shown, std::vector<SettingProblem>& problems) {
  const absl::StatusOr<SettingValue> value = convert_setting_text(*selection.key, text);
  if (!value.ok()) return problems.push_back({where, shown, std::string(value.status().message())});
  std::vector<std::string> paths;
  std::string problem;
  if (!expand(tree, selection, paths, problem)) return problems.push_back({where, shown, problem});
  for (const std::string& path : paths) tree.entries[path] = {selection.key, *value, where};
}

// "AGENT_0_DEVICE_THREADS" below `table`.
bool match_environment(const SettingTable& table, std::string_view rest, Selection& selection) {
  for (const SettingKey& key : table.keys) {
    if (rest == absl::AsciiStrToUpper(key.name)) {
      selection.key = &key;
      return true;
    }
  }
  for (const SettingTable& child : table.tables) {
    const std::string opening = absl::AsciiStrToUpper(child.name) + "_";
    if (!rest.starts_with(opening)) continue;
    std::string_view below = rest.substr(opening.size());
    Step step{&child, std::nullopt};
    size_t index = 0;
    const auto [end, error] = std::from_chars(below.data(), below.data() + below.size(), index);
    const size_t digits = static_cast<size_t>(end - below.data());
    if (child.array && error == std::errc() && digits < below.size() && below[digits] == '_') {
      step.index = index;
      below.remove_prefix(digits + 1);
    }
    selection.steps.push_back(step);
    if (match_environment(child, below, selection)) return true;
    selection.steps.pop_back();
  }
  return false;
}

void environment_names(const SettingTable& table, const std::string& prefix,
                       std::vector<std::string>& names) {
  for (const SettingKey& key : table.keys) names.push_back(prefix + absl::AsciiStrToUpper(key.name));
  for (const SettingTable& child : table.tables) {
    environment_names(child, str_cat(prefix, absl::AsciiStrToUpper(child.name), "_"), names);
  }
}

// "agent[0].device.threads".
absl::StatusOr<Selection> parse_path(std::string_view path) {
  Selection selection;
  const SettingTable* table = &settings_schema();
  const std::vector<std::string> parts = absl::StrSplit(to_absl(path), '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string_view name = parts[i];
    std::optional<size_t> index;
    if (const size_t bracket = name.find('['); bracket != std::string_view::npos) {
      size_t number = 0;
      const auto [end, error] = std::from_chars(name.data() + bracket + 1, name.data() + name.size(), number);
      if (error != std::errc() || end + 1 != name.data() + name.size() || *end != ']') {
        return absl::InvalidArgumentError("an index is a number in brackets, such as agent[0]");
      }
      index = number;
      name = name.substr(0, bracket);
    }
    if (i + 1 == parts.size() && !index) {
      selection.key = table->key(name);
      if (selection.key != nullptr) return selection;
    }
    const SettingTable* child = table->table(name);
    if (child == nullptr || (index && !child->array)) {
      return absl::InvalidArgumentError(
          str_cat("there is no such setting", did_you_mean(name, table->names())));
    }
    selection.steps.push_back({child, index});
    table = child;
  }
  return absl::InvalidArgumentError(
      str_cat("this is a table: name one of its keys, such as ", path, ".", table->keys.front().name));
}

}  // namespace

void read_environment(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems) {
  struct Found {
    Selection selection;
    const std::string* variable;
    const std::string* value;
    size_t indices;
  };
  std::vector<Found> all;
  for (const auto& [variable, value] : input.environment) {
    if (!variable.starts_with("CENOTE_")) continue;
    const std::string_view rest = std::string_view(variable).substr(7);
    bool ours = false;
    for (const SettingTable& table : settings_schema().tables) {
      ours |= rest.starts_with(absl::AsciiStrToUpper(table.name) + "_");
    }
    if (!ours) continue;
    Found found{{}, &variable, &value, 0};
    if (!match_environment(settings_schema(), rest, found.selection)) {
      std::vector<std::string> names;
      environment_names(settings_schema(), "CENOTE_", names);
      problems.push_back({"environment " + variable, "",
                          str_cat("there is no such setting", did_you_mean(variable, names))});
      continue;
    }
    for (const Step& step : found.selection.steps) found.indices += step.index.has_value();
    all.push_back(std::move(found));
  }
  // The more indices a name has, the later it is applied.
  std::stable_sort(all.begin(), all.end(),
                   [](const Found& a, const Found& b) { return a.indices < b.indices; });
  for (const Found& found : all) {
    apply(tree, found.selection, *found.value, "environment " + *found.variable, "", problems);
  }
}

void read_overrides(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems) {
  for (const std::string& override : input.overrides) {
    const size_t equals = override.find('=');
    const std::string where = "flag " + override.substr(0, 128);
    if (equals == std::string::npos) {
      problems.push_back({where, "", "write KEY=VALUE, such as log.level=debug"});
      continue;
    }
    const std::string path = override.substr(0, equals);
    const absl::StatusOr<Selection> selection = parse_path(path);
    if (selection.ok())
      apply(tree, *selection, override.substr(equals + 1), where, path, problems);
    else
      problems.push_back({where, path, std::string(selection.status().message())});
  }
}

}  // namespace cenote
