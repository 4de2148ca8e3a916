#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cluster_settings_impl.h"
#include "base/text.h"
#include "base/units.h"

namespace cenote {
namespace {

struct Check {
  const ClusterSettings& cluster;
  std::vector<SettingProblem>& problems;
  std::map<std::string, std::string> names{};                       // Daemon name -> path.
  std::map<std::pair<std::string, uint16_t>, std::string> ports{};  // Host and port -> path.
  std::map<std::pair<std::string, std::string>, std::string> folders{};  // Host and data_dir -> path.

  void problem(const std::string& path, std::string text) {
    problems.push_back({cluster.resolved->origin(path), path, std::move(text)});
  }

  void name(const std::string& path, const std::string& value) {
    if (value == "controller" || value == "supervisor")
      return problem(path, str_cat("\"", value, "\" is the ", value, "'s own name: choose another"));
    const auto [first, fresh] = names.emplace(value, path);
    if (!fresh)
      problem(path, str_cat("\"", value, "\" is also ", first->second, ": daemons need names of their own"));
  }

  void host(const std::string& path, const std::string& value) {
    if (value == "0.0.0.0" || value == "::" || value == "[::]")
      problem(path, str_cat("\"", value, "\" means every address, and others must reach the daemon at one: write that"));
  }

  void port(const std::string& path, const std::string& host, uint16_t value) {
    if (value == 0) return;
    const auto [first, fresh] = ports.emplace(std::pair(host, value), path);
    if (!fresh) problem(path, str_cat(host, ":", value, " is also ", first->second, ": choose another port"));
  }

  void memory(size_t index) {
    const MemorySettings& memory = cluster.memory[index];
    const std::string path = str_cat("memory[", index, "].");
    name(path + "name", memory.name);
    host(path + "host", memory.host);
    port(path + "port", memory.host, memory.port);
    port(path + "fabric_port", memory.host, memory.fabric_port);
    if (!memory.data_dir.empty() && memory.data_dir.front() != '/') {
      problem(path + "data_dir", str_cat("\"", memory.data_dir, "\" is not absolute: begin it with /"));
    } else if (!memory.data_dir.empty()) {
      const auto [first, fresh] = folders.emplace(std::pair(memory.host, memory.data_dir), path + "data_dir");
      if (!fresh) {
        problem(path + "data_dir",
                str_cat(memory.data_dir, " is also ", first->second, ": each memory server needs a folder of its own"));
      }
    }
    if (memory.slab_bytes_max > memory.capacity_bytes / 2) {
      problem(path + "slab_size_max",
              str_cat(format_bytes(memory.slab_bytes_max), ", a slab is at most half of the capacity of ",
                      format_bytes(memory.capacity_bytes), ": lower it or raise the capacity"));
    }
  }

  void agent(size_t index) {
    const AgentSettings& agent = cluster.agents[index];
    const std::string path = str_cat("agent[", index, "].");
    name(path + "name", agent.name);
    host(path + "host", agent.host);
    if (agent.read_bytes % kChunkBytes != 0) {
      problem(path + "read_size",
              str_cat(format_bytes(agent.read_bytes), " is not a multiple of the chunk of ",
                      format_bytes(kChunkBytes), ": use such as \"1 MiB\""));
    }
    if (agent.cache_directory.front() != '/') {
      problem(path + "cache_directory",
              str_cat("\"", agent.cache_directory, "\" is not absolute: begin it with /"));
    }
    std::map<std::string, std::string> devices;
    for (size_t i = 0; i < agent.devices.size(); ++i) {
      const std::string device_path = str_cat(path, "device[", i, "].");
      const auto [first, fresh] = devices.emplace(agent.devices[i].name, device_path + "name");
      if (!fresh)
        problem(device_path + "name", str_cat("\"", agent.devices[i].name, "\" is also ", first->second,
                                              ": give each its own index"));
      port(device_path + "port", agent.host, agent.devices[i].port);
      device(device_path, agent.devices[i]);
      room(device_path, agent.devices[i]);
    }
  }

  // Requests that a router may send on credit find room beside the running one.
  void room(const std::string& path, const DeviceSettings& device) {
    if (device.credits <= uint64_t{device.queue_max} + 1) return;
    problem(path + "credits", str_cat(device.credits, " requests on credit, but one runs and queue_max of ", device.queue_max,
                                      " wait: lower it to ", uint64_t{device.queue_max} + 1, " or raise queue_max"));
  }

  void device(const std::string& path, const DeviceSettings& device) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(device.name, absl::MaxSplits(':', 1));
    uint32_t index = 0;
    const bool known = parts.first == "host" || parts.first == "emulated" || parts.first == "cuda";
    if (!known || !absl::SimpleAtoi(parts.second, &index) || index > 1023 || str_cat(index) != parts.second) {
      return problem(path + "name", str_cat("\"", device.name,
                                            "\" is not host:N, emulated:N or cuda:N with N from 0 to 1023"));
    }
    if (parts.first == "emulated") {
      if (device.memory_bytes == 0)
        problem(path + "memory",
                "an emulated device needs memory of its own: write a size such as \"1 GiB\"");
      return;
    }
    const auto only_emulated = [&](const char* key, bool given) {
      if (given)
        problem(path + key, str_cat("only emulated devices have it, this is ", device.name, ": remove it"));
    };
    only_emulated("memory", device.memory_bytes != 0);
    only_emulated("copy_gb_per_s", device.copy_gb_per_s != 0);
    only_emulated("copy_latency", device.copy_latency.ns != 0);
    only_emulated("compute_ms", !device.compute_ms.empty());
  }

  void all() {
    host("controller.host", cluster.controller.host);
    port("controller.port", cluster.controller.host, cluster.controller.port);
    const ControllerSettings& controller = cluster.controller;
    if (controller.member_timeout < controller.heartbeat_interval * 3) {
      problem("controller.member_timeout",
              str_cat(format_duration(controller.member_timeout), " is less than 3 heartbeat intervals of ",
                      format_duration(controller.heartbeat_interval),
                      ": raise it or lower controller.heartbeat_interval"));
    }
    for (size_t i = 0; i < cluster.routers.size(); ++i) {
      name(str_cat("router[", i, "].name"), cluster.routers[i].name);
      host(str_cat("router[", i, "].host"), cluster.routers[i].host);
      port(str_cat("router[", i, "].port"), cluster.routers[i].host, cluster.routers[i].port);
    }
    for (size_t i = 0; i < cluster.memory.size(); ++i) memory(i);
    for (size_t i = 0; i < cluster.agents.size(); ++i) agent(i);
    std::map<std::string, std::string> tenants;
    for (size_t i = 0; i < cluster.tenants.size(); ++i) {
      const std::string path = str_cat("tenant[", i, "].name");
      const auto [first, fresh] = tenants.emplace(cluster.tenants[i].name, path);
      if (!fresh) problem(path, str_cat("\"", cluster.tenants[i].name, "\" is also ", first->second, ": one section a tenant"));
    }
    if (!cluster.memory.empty() && cluster.replicas > cluster.memory.size()) {
      problem("placement.replicas", str_cat(cluster.replicas, " copies on ", cluster.memory.size(),
                                            " memory servers: lower it or add [[memory]]"));
    }
    if (cluster.state_directory.empty()) {
      problem("cluster.state_directory", "neither XDG_STATE_HOME nor HOME is set: name a directory");
    }
  }
};

}  // namespace

void check_relations(const ClusterSettings& cluster, std::vector<SettingProblem>& problems) {
  Check{cluster, problems}.all();
}

}  // namespace cenote
