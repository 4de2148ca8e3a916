// base/cluster_settings.h - a cluster's settings as structs: what the daemons and the tool read. Plain
// values, checked: every relation between keys holds (unique names and ports, limits that fit each other).
// Meanings and defaults: settings/REFERENCE.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/settings.h"

namespace cenote {

struct ControllerSettings {
  std::string host;
  uint16_t port = 0;
  Duration heartbeat_interval;
  Duration member_timeout;
  Duration repair_after;
  Duration probation;
};

struct RouterSettings {
  std::string name, host;
  uint16_t port = 0;
  uint32_t queue_max = 0;
  uint32_t outstanding_max = 0;
  uint32_t sessions_max = 16384;
  Duration deadline;
  uint32_t retry_max = 0;
};

enum class HugePages : uint8_t { kAuto, kOn, kOff };

struct MemorySettings {
  std::string name, host;
  uint16_t port = 0;
  uint16_t fabric_port = 0;
  uint64_t capacity_bytes = 0;
  HugePages huge_pages = HugePages::kAuto;
  std::string failure_domain;  // Never empty: the server's name if the file names none.
  Duration grant_duration;
  uint64_t slab_bytes_max = 0;
  uint32_t slabs_max = 0;
  std::string data_dir;  // Absolute; empty: no disk.
  uint64_t data_capacity_bytes = 0;
  Duration scrub_interval;  // 0: never.
  double repair_gb_per_s = 0;  // 0: not paced.
};

struct DeviceSettings {
  std::string name;           // "host:0"
  uint16_t port = 0;          // Of the executor; 0: chosen by the system.
  uint32_t threads = 0;       // 0: cores - 1, at least 1.
  uint64_t memory_bytes = 0;  // Emulated devices only, as the next three.
  double copy_gb_per_s = 0;   // 0: not paced.
  Duration copy_latency;
  std::map<std::string, double> compute_ms;  // Model name -> calibrated time of one run.
  uint32_t credits = 0;
  uint32_t queue_max = 0;
  std::vector<std::string> models;  // Empty: all.
};

struct AgentSettings {
  std::string name, host;
  uint64_t cache_capacity_bytes = 0;
  std::string cache_directory;      // Resolved; "auto" became /dev/shm.
  bool cache_directory_auto = true;  // A tmpfs of its own is better, where it may be mounted.
  bool check_cached = true;
  uint32_t reads_in_flight = 0;
  uint64_t read_bytes = 0;  // A multiple of kChunkBytes.
  Duration read_timeout;
  double link_gb_per_s = 0;  // 0: not paced.
  std::vector<DeviceSettings> devices;
};

struct GroupSetting {
  enum class Kind : uint8_t { kLayer, kBytes, kModel };
  Kind kind = Kind::kBytes;
  uint64_t bytes = 0;  // With kBytes.
};

struct TenantSettings {
  std::string name;
  uint64_t pool_bytes_max = 0;  // 0: no limit; as the next.
  uint64_t models_max = 0;
};

struct AuditSettings {
  uint64_t file_bytes_max = 0;
  bool required = true;
};

struct ClusterSettings {
  std::string file;  // Where it was read from.
  std::string name;
  std::string state_directory;  // Absolute.
  ControllerSettings controller;
  std::vector<RouterSettings> routers;
  std::vector<MemorySettings> memory;
  std::vector<AgentSettings> agents;
  std::vector<TenantSettings> tenants;
  AuditSettings audit;
  std::string fabric_provider;  // "": first available, as fabric::TransportOptions has it.
  GroupSetting group;
  std::string placement_policy;  // "per-app", "horizontal", "vertical", "hybrid"
  uint32_t replicas = 1;         // Resolved: never 0, never more than memory servers.
  std::string log_level;
  uint64_t log_file_bytes_max = 0;
  uint64_t payload_bytes_max = 0;
  Duration deploy_lease;
  Duration drain_timeout;
  Duration silence_max;          // base/suspicion.h
  std::shared_ptr<const Settings> resolved;  // Every value by path, with its origin.

  // Null if the cluster has no such daemon.
  const RouterSettings* router(std::string_view name) const;
  const MemorySettings* memory_server(std::string_view name) const;
  const AgentSettings* agent(std::string_view name) const;
};

// Reads, resolves and checks. `problems` gets everything that is wrong; the result is to be used only if it
// stays empty.
ClusterSettings resolve_cluster_settings(const SettingsInput& input, std::vector<SettingProblem>& problems);

// The same from a file. kNotFound, kPermissionDenied: the file. kInvalidArgument: all problems, one a line.
absl::StatusOr<ClusterSettings> load_cluster_settings(const std::string& path,
                                                      const std::vector<std::string>& overrides,
                                                      const std::map<std::string, std::string>& environment);

// This process's environment, for the call above.
std::map<std::string, std::string> process_environment();

// Resolved settings as JSON: the schema's keys, sizes in bytes, durations in seconds, "auto"s resolved.
std::string settings_json(const ClusterSettings& settings);

}  // namespace cenote
