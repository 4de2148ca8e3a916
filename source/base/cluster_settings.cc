#include "base/cluster_settings.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/cluster_settings_impl.h"
#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

// One table of the resolved settings: keys without the prefix.
struct Table {
  const Settings& settings;
  std::string prefix;

  std::string path(const char* key) const { return prefix + key; }
  const std::string& text(const char* key) const { return settings.text(path(key)); }
  uint16_t port(const char* key) const { return static_cast<uint16_t>(settings.integer(path(key))); }
  uint32_t count(const char* key) const { return static_cast<uint32_t>(settings.integer(path(key))); }
  uint64_t bytes(const char* key) const { return settings.bytes(path(key)); }
  double number(const char* key) const { return settings.number(path(key)); }
  bool boolean(const char* key) const { return settings.boolean(path(key)); }
  Duration duration(const char* key) const { return settings.duration(path(key)); }
};

RouterSettings router_of(const Table& table) {
  return {.name = table.text("name"),
          .host = table.text("host"),
          .port = table.port("port"),
          .queue_max = table.count("queue_max"),
          .outstanding_max = table.count("outstanding_max"),
          .sessions_max = table.count("sessions_max"),
          .deadline = table.duration("deadline"),
          .retry_max = table.count("retry_max")};
}

MemorySettings memory_of(const Table& table) {
  const std::string& pages = table.text("huge_pages");
  const std::string& domain = table.text("failure_domain");
  return {.name = table.text("name"),
          .host = table.text("host"),
          .port = table.port("port"),
          .fabric_port = table.port("fabric_port"),
          .capacity_bytes = table.bytes("capacity"),
          .huge_pages = pages == "on"    ? HugePages::kOn
                        : pages == "off" ? HugePages::kOff
                                         : HugePages::kAuto,
          .failure_domain = domain.empty() ? table.text("name") : domain,
          .grant_duration = table.duration("grant_duration"),
          .slab_bytes_max = table.bytes("slab_size_max"),
          .slabs_max = table.count("slabs_max"),
          .data_dir = table.text("data_dir"),
          .data_capacity_bytes = table.bytes("data_capacity"),
          .scrub_interval = table.duration("scrub_interval"),
          .repair_gb_per_s = table.number("repair_gb_per_s")};
}

DeviceSettings device_of(const Table& table) {
  return {.name = table.text("name"),
          .port = table.port("port"),
          .threads = table.count("threads"),
          .memory_bytes = table.bytes("memory"),
          .copy_gb_per_s = table.number("copy_gb_per_s"),
          .copy_latency = table.duration("copy_latency"),
          .compute_ms = table.settings.numbers(table.path("compute_ms")),
          .credits = table.count("credits"),
          .queue_max = table.count("queue_max"),
          .models = table.settings.strings(table.path("models"))};
}

AgentSettings agent_of(const Table& table) {
  AgentSettings agent{.name = table.text("name"),
                      .host = table.text("host"),
                      .cache_capacity_bytes = table.bytes("cache_capacity"),
                      .cache_directory = table.text("cache_directory"),
                      .check_cached = table.boolean("check_cached"),
                      .reads_in_flight = table.count("reads_in_flight"),
                      .read_bytes = table.bytes("read_size"),
                      .read_timeout = table.duration("read_timeout"),
                      .link_gb_per_s = table.number("link_gb_per_s")};
  agent.cache_directory_auto = agent.cache_directory == "auto";
  if (agent.cache_directory_auto) agent.cache_directory = "/dev/shm";
  for (size_t i = 0; i < table.settings.count(table.path("device")); ++i) {
    agent.devices.push_back(device_of({table.settings, str_cat(table.prefix, "device[", i, "].")}));
  }
  return agent;
}

TenantSettings tenant_of(const Table& table) {
  return {.name = table.text("name"), .pool_bytes_max = table.bytes("pool_bytes_max"), .models_max = table.count("models_max")};
}

GroupSetting group_of(const std::string& text) {
  if (text == "layer") return {GroupSetting::Kind::kLayer, 0};
  if (text == "model") return {GroupSetting::Kind::kModel, 0};
  GroupSetting group;
  CENOTE_CHECK(absl::SimpleAtoi(text, &group.bytes));
  return group;
}

// `path` made absolute: ~ is the home directory, relative paths count from the settings file.
std::string absolute_path(const std::string& path, const SettingsInput& input) {
  std::filesystem::path result = path;
  const auto home = input.environment.find("HOME");
  if (absl::StartsWith(path, "~/") && home != input.environment.end())
    result = std::filesystem::path(home->second) / path.substr(2);
  std::error_code error;
  if (result.is_relative()) {
    result = std::filesystem::absolute(std::filesystem::path(input.file_name), error).parent_path() / result;
  }
  return result.lexically_normal().string();
}

// Empty if neither XDG_STATE_HOME nor HOME is known.
std::string automatic_state_directory(const std::string& cluster, const SettingsInput& input) {
  const auto state = input.environment.find("XDG_STATE_HOME");
  const auto home = input.environment.find("HOME");
  if (state != input.environment.end() && absl::StartsWith(state->second, "/"))
    return str_cat(state->second, "/cenote/", cluster);
  if (home != input.environment.end() && absl::StartsWith(home->second, "/")) {
    return str_cat(home->second, "/.local/state/cenote/", cluster);
  }
  return "";
}

template <typename T>
const T* by_name(const std::vector<T>& all, std::string_view name) {
  for (const T& one : all) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

}  // namespace

const RouterSettings* ClusterSettings::router(std::string_view name) const {
  return by_name(routers, name);
}
const MemorySettings* ClusterSettings::memory_server(std::string_view name) const {
  return by_name(memory, name);
}
const AgentSettings* ClusterSettings::agent(std::string_view name) const {
  return by_name(agents, name);
}

ClusterSettings resolve_cluster_settings(const SettingsInput& input, std::vector<SettingProblem>& problems) {
  const auto resolved = std::make_shared<const Settings>(Settings::resolve(input, problems));
  const Settings& settings = *resolved;
  ClusterSettings cluster;
  cluster.file = input.file_name;
  cluster.resolved = resolved;
  cluster.name = settings.text("cluster.name");
  const std::string& directory = settings.text("cluster.state_directory");
  cluster.state_directory =
      directory == "auto" ? automatic_state_directory(cluster.name, input) : absolute_path(directory, input);
  const Table controller{settings, "controller."};
  cluster.controller = {.host = controller.text("host"),
                        .port = controller.port("port"),
                        .heartbeat_interval = controller.duration("heartbeat_interval"),
                        .member_timeout = controller.duration("member_timeout"),
                        .repair_after = controller.duration("repair_after"),
                        .probation = controller.duration("probation")};
  for (size_t i = 0; i < settings.count("router"); ++i)
    cluster.routers.push_back(router_of({settings, str_cat("router[", i, "].")}));
  for (size_t i = 0; i < settings.count("memory"); ++i)
    cluster.memory.push_back(memory_of({settings, str_cat("memory[", i, "].")}));
  for (size_t i = 0; i < settings.count("agent"); ++i)
    cluster.agents.push_back(agent_of({settings, str_cat("agent[", i, "].")}));
  for (size_t i = 0; i < settings.count("tenant"); ++i) cluster.tenants.push_back(tenant_of({settings, str_cat("tenant[", i, "].")}));
  cluster.audit = {.file_bytes_max = settings.bytes("audit.file_size_max"), .required = settings.boolean("audit.required")};
  const std::string& provider = settings.text("fabric.provider");
  cluster.fabric_provider = provider == "auto" ? "" : provider;
  cluster.group = group_of(settings.text("load.group"));
  cluster.placement_policy = settings.text("placement.policy");
  const int64_t replicas = settings.integer("placement.replicas");
  cluster.replicas = static_cast<uint32_t>(replicas != 0 ? replicas : cluster.memory.size() >= 2 ? 2 : 1);
  cluster.log_level = settings.text("log.level");
  cluster.log_file_bytes_max = settings.bytes("log.file_size_max");
  cluster.payload_bytes_max = settings.bytes("limits.payload_max");
  cluster.deploy_lease = settings.duration("limits.deploy_lease");
  cluster.drain_timeout = settings.duration("limits.drain_timeout");
  cluster.silence_max = settings.duration("limits.silence_max");
  check_relations(cluster, problems);
  return cluster;
}

}  // namespace cenote
