#include "base/settings.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "base/settings_impl.h"
#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

using Json = nlohmann::ordered_json;

// "agent[0].device" as a file writes it: "agent.device".
std::string without_indices(std::string_view path) {
  std::string text;
  bool inside = false;
  for (char c : path) {
    if (c == '[') inside = true;
    if (!inside) text.push_back(c);
    if (c == ']') inside = false;
  }
  return text;
}

struct Defaults {
  const SettingsInput& input;
  SettingsTree* tree;
  std::vector<SettingProblem>& problems;

  void fill(const SettingTable& table, const std::string& prefix, size_t index) {
    for (const SettingKey& key : table.keys) {
      SettingsTree::Entry& entry = tree->entries[prefix + key.name];
      if (entry.key != nullptr) continue;
      entry = {&key, key.fallback, "default"};
      if (std::string* text = std::get_if<std::string>(&entry.value)) {
        *text = absl::StrReplaceAll(*text, {{"{index}", str_cat(index)}});
      }
    }
    for (const SettingTable& child : table.tables) {
      const std::string path = prefix + child.name;
      if (!child.array) {
        fill(child, path + ".", 0);
        continue;
      }
      const size_t count = tree->counts[path];
      if (count < static_cast<size_t>(child.count_min)) {
        problems.push_back({input.file_name, path,
                            str_cat("there are ", count, ", at least ", child.count_min, " must be: add [[",
                                    without_indices(path), "]]")});
      }
      for (size_t i = 0; i < count; ++i) fill(child, str_cat(path, "[", i, "]."), i);
    }
  }
};

Json value_json(const SettingValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Duration>)
          return static_cast<double>(v.ns) / 1e9;  // Exact where the decimal is: seconds() gives 60.00000000000001.
        else
          return v;
      },
      value);
}

Json table_json(const SettingsTree& tree, const SettingTable& table, const std::string& prefix) {
  Json json = Json::object();
  for (const SettingKey& key : table.keys) {
    const SettingsTree::Entry& entry = tree.entries.find(prefix + key.name)->second;
    const std::string* text = std::get_if<std::string>(&entry.value);
    const bool size = key.type == SettingType::kGroup && *text != "layer" && *text != "model";
    json[key.name] = size ? Json(std::stoll(*text)) : value_json(entry.value);
  }
  for (const SettingTable& child : table.tables) {
    const std::string path = prefix + child.name;
    if (!child.array) {
      json[child.name] = table_json(tree, child, path + ".");
      continue;
    }
    Json list = Json::array();
    for (size_t i = 0; i < tree.counts.find(path)->second; ++i)
      list.push_back(table_json(tree, child, str_cat(path, "[", i, "].")));
    json[child.name] = std::move(list);
  }
  return json;
}

template <typename T>
const T& typed(const SettingsTree& tree, std::string_view path) {
  const auto found = tree.entries.find(path);
  CENOTE_CHECK(found != tree.entries.end());
  const T* value = std::get_if<T>(&found->second.value);
  CENOTE_CHECK(value != nullptr);
  return *value;
}

}  // namespace

std::string SettingProblem::message() const {
  return str_cat(where, where.empty() ? "" : ": ", key, key.empty() ? "" : ": ", text);
}

absl::Status problems_status(const std::vector<SettingProblem>& problems) {
  if (problems.empty()) return absl::OkStatus();
  constexpr size_t kShownMax = 50;
  std::string text;
  for (size_t i = 0; i < std::min(problems.size(), kShownMax); ++i)
    str_append(&text, i == 0 ? "" : "\n", problems[i].message());
  if (problems.size() > kShownMax) str_append(&text, "\nand ", problems.size() - kShownMax, " more");
  return absl::InvalidArgumentError(text);
}

Settings::Settings() : tree_(std::make_unique<SettingsTree>()) {}
Settings::~Settings() = default;
Settings::Settings(Settings&&) noexcept = default;
Settings& Settings::operator=(Settings&&) noexcept = default;

void add_defaults(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems) {
  Defaults{input, &tree, problems}.fill(settings_schema(), "", 0);
}

Settings Settings::resolve(const SettingsInput& input, std::vector<SettingProblem>& problems) {
  Settings settings;
  read_file(input, *settings.tree_, problems);
  const bool parsed = problems.empty() || !settings.tree_->counts.empty();
  read_environment(input, *settings.tree_, problems);
  read_overrides(input, *settings.tree_, problems);
  // What is missing in a file that could not be read is not worth saying.
  std::vector<SettingProblem> missing;
  add_defaults(input, *settings.tree_, parsed ? problems : missing);
  return settings;
}

bool Settings::boolean(std::string_view path) const {
  return typed<bool>(*tree_, path);
}
int64_t Settings::integer(std::string_view path) const {
  return typed<int64_t>(*tree_, path);
}
double Settings::number(std::string_view path) const {
  return typed<double>(*tree_, path);
}
uint64_t Settings::bytes(std::string_view path) const {
  return static_cast<uint64_t>(typed<int64_t>(*tree_, path));
}
Duration Settings::duration(std::string_view path) const {
  return typed<Duration>(*tree_, path);
}
const std::string& Settings::text(std::string_view path) const {
  return typed<std::string>(*tree_, path);
}
const std::vector<std::string>& Settings::strings(std::string_view path) const {
  return typed<std::vector<std::string>>(*tree_, path);
}
const std::map<std::string, double>& Settings::numbers(std::string_view path) const {
  return typed<std::map<std::string, double>>(*tree_, path);
}

size_t Settings::count(std::string_view array_path) const {
  const auto found = tree_->counts.find(array_path);
  CENOTE_CHECK(found != tree_->counts.end());
  return found->second;
}

const std::string& Settings::origin(std::string_view path) const {
  const auto found = tree_->entries.find(path);
  CENOTE_CHECK(found != tree_->entries.end());
  return found->second.origin;
}

std::string Settings::json() const {
  return table_json(*tree_, settings_schema(), "").dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cenote
