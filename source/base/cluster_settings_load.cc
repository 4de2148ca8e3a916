// Files and environment around cluster_settings, and the JSON that other programs read.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/cluster_settings.h"
#include "base/status.h"
#include "base/text.h"
#include "base/units.h"

extern char** environ;

namespace cenote {
namespace {

absl::StatusOr<std::string> read_text(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return absl::InvalidArgumentError(
        str_cat("settings file '", path, "' is a directory: name a .toml file, such as settings/local.toml"));
  }
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return errno_status(errno, str_cat("settings file '", path, "'"));
  std::string text(kSettingsFileBytesMax + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) return errno_status(errno, str_cat("settings file '", path, "'"));
  return text;
}

}  // namespace

absl::StatusOr<ClusterSettings> load_cluster_settings(const std::string& path,
                                                      const std::vector<std::string>& overrides,
                                                      const std::map<std::string, std::string>& environment) {
  CENOTE_ASSIGN_OR_RETURN(std::string text, read_text(path));
  std::vector<SettingProblem> problems;
  ClusterSettings cluster = resolve_cluster_settings(
      {.file_name = path, .text = std::move(text), .overrides = overrides, .environment = environment},
      problems);
  CENOTE_RETURN_IF_ERROR(problems_status(problems));
  return cluster;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos)
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

std::string settings_json(const ClusterSettings& settings) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(settings.resolved->json());
  json["cluster"]["state_directory"] = settings.state_directory;
  json["fabric"]["provider"] = settings.fabric_provider;
  json["placement"]["replicas"] = settings.replicas;
  for (size_t i = 0; i < settings.memory.size(); ++i)
    json["memory"][i]["failure_domain"] = settings.memory[i].failure_domain;
  for (size_t i = 0; i < settings.agents.size(); ++i)
    json["agent"][i]["cache_directory"] = settings.agents[i].cache_directory;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace cenote
