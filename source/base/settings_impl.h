// base/settings_impl.h - the tree behind Settings, shared by the files that fill it. Not for other rooms.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/settings.h"
#include "base/settings_schema.h"

namespace cenote {

struct SettingsTree {
  struct Entry {
    const SettingKey* key = nullptr;
    SettingValue value;
    std::string origin;
  };
  std::map<std::string, Entry, std::less<>> entries;  // By full path.
  std::map<std::string, size_t, std::less<>> counts;  // Of array tables, by path without the last index.
};

// The steps of Settings::resolve(), in order.
void read_file(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems);
void read_environment(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems);
void read_overrides(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems);
void add_defaults(const SettingsInput& input, SettingsTree& tree, std::vector<SettingProblem>& problems);

}  // namespace cenote
