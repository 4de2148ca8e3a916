// base/settings.h - settings of a cluster, resolved: file < CENOTE_* environment < flags, checked against
// settings/schema.json. Values are addressed by path: "controller.port", "agent[0].device[1].threads".
// Immutable once resolved; any thread. Most of the program wants the struct view in base/cluster_settings.h.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"

namespace cenote {

inline constexpr size_t kSettingsFileBytesMax = 1 << 20;

// One thing wrong with the settings. Text: the value, the limit and the remedy.
struct SettingProblem {
  std::string where;  // "cluster.toml:12", "environment CENOTE_LOG_LEVEL", "flag log.level=x".
  std::string key;    // Path; empty where none applies.
  std::string text;
  std::string message() const;
};

// kInvalidArgument with each problem (of a great many, the first 50) on a line of its own; ok if there is
// none.
absl::Status problems_status(const std::vector<SettingProblem>& problems);

struct SettingsInput {
  std::string file_name;  // As errors shall name it.
  std::string text;       // TOML.
  // "path=value". An array without index means all of its tables: "agent.cache_capacity=1 GiB". A later one
  // wins.
  std::vector<std::string> overrides;
  // CENOTE_CONTROLLER_PORT, CENOTE_AGENT_0_DEVICE_1_THREADS; without indices: all tables, and an index wins
  // over none. Variables that do not begin with CENOTE_ and a table's name are not settings and are left
  // alone.
  std::map<std::string, std::string> environment;
};

class Settings {
 public:
  // Adds to `problems` all that is wrong; the result is complete (defaults in place of what is wrong) only if
  // nothing was.
  static Settings resolve(const SettingsInput& input, std::vector<SettingProblem>& problems);

  Settings();
  ~Settings();
  Settings(Settings&&) noexcept;
  Settings& operator=(Settings&&) noexcept;

  // A path that the schema does not have, or of another type, is a bug: aborts.
  bool boolean(std::string_view path) const;
  int64_t integer(std::string_view path) const;
  double number(std::string_view path) const;
  uint64_t bytes(std::string_view path) const;
  Duration duration(std::string_view path) const;
  const std::string& text(std::string_view path) const;  // string, name, host, path, enum, group.
  const std::vector<std::string>& strings(std::string_view path) const;
  const std::map<std::string, double>& numbers(std::string_view path) const;

  size_t count(std::string_view array_path) const;  // "router", "agent[0].device".
  // "cluster.toml:12", "environment CENOTE_LOG_LEVEL", "flag log.level=debug", "default".
  const std::string& origin(std::string_view path) const;

  // All values in the schema's order: sizes in bytes, durations in seconds.
  std::string json() const;

 private:
  std::unique_ptr<struct SettingsTree> tree_;
};

// settings/REFERENCE.md: every key with type, default, limits and example, made from the schema.
std::string settings_reference();

}  // namespace cenote
