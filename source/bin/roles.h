// bin/roles.h - what every role of cenoted is given, and how it is told to stop.
//
// Files of a cluster's state directory (0700): settings.toml (the file `cenote up` was given), certificates/{ca,node,client}.{crt,key},
// logs/NAME.log, run/NAME.sock (Unix sockets), catalogue.db (controller), supervisor.json (written by the supervisor).
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/cluster_settings.h"

namespace cenote {

struct RoleContext {
  ClusterSettings settings;
  std::string name;             // "memory-0", "agent-0", "agent-0/host:0", "router-0", "controller"
  std::string state_directory;
  std::vector<std::string> overrides;  // --set key=value, for the daemons that this one starts.
  int stop_fd = -1;             // Becomes readable on SIGTERM or SIGINT: drain, then return. Level-triggered, never read.
  bool stop_requested() const;  // stop_fd is readable.
};

// Each runs until asked to stop (Ok) or until it cannot go on (a Status fit for people; main exits with exit_code()).
absl::Status run_memory(const RoleContext& context);
absl::Status run_agent(const RoleContext& context);
absl::Status run_executor(const RoleContext& context);
absl::Status run_controller(const RoleContext& context);
absl::Status run_router(const RoleContext& context);
absl::Status run_supervisor(const RoleContext& context);

}  // namespace cenote
