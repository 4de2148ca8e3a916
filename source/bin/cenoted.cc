// cenoted: every daemon of Cenote, by role; and `cenoted settings`, which reads, checks and prints a settings file for the tool.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/cluster_settings.h"
#include "base/log.h"
#include "base/status.h"
#include "bin/roles.h"
#include "bin/stop_signal.h"

namespace cenote {
namespace {

struct RoleEntry {
  const char* name;
  const char* what;
  const char* example_name;
  absl::Status (*run)(const RoleContext&);
};
constexpr RoleEntry kRoles[] = {
    {"memory", "A memory server: holds sealed blocks in registered memory", "memory-0", run_memory},
    {"agent", "A GPU host's agent: the host's cache, its fetcher, its executors", "agent-0", run_agent},
    {"executor", "One device; started by its agent", "agent-0/host:0", run_executor},
    {"controller", "Membership, catalogue, assignments", "controller", run_controller},
    {"router", "Admits requests and picks a device for each", "router-0", run_router},
    {"supervisor", "Starts a host's daemons and restarts those that die", "supervisor", run_supervisor},
};

int fail(const std::string& who, const absl::Status& status) {
  std::fprintf(stderr, "cenoted %s: %s\n", who.c_str(), std::string(status.message()).c_str());
  return exit_code(status.code());
}

struct RoleArguments {
  std::string state;
  std::string name;
  std::string settings;
  std::vector<std::string> set;
};

absl::Status check_state_directory(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) {
    return absl::NotFoundError(absl::StrCat("--state ", path, ": no such directory; `cenote up` makes it"));
  }
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return absl::PermissionDeniedError(absl::StrCat("--state ", path, ": not writable for this user"));
  }
  return absl::OkStatus();
}

// An executor's name has its agent's in it, and a slash, which no file name may have.
std::string log_name(std::string name) {
  std::ranges::replace(name, '/', '-');
  return name;
}

absl::Status run_role(const RoleEntry& role, const RoleArguments& arguments, int stop_fd) {
  CENOTE_RETURN_IF_ERROR(check_state_directory(arguments.state));
  const std::string file = arguments.settings.empty() ? arguments.state + "/settings.toml" : arguments.settings;
  CENOTE_ASSIGN_OR_RETURN(ClusterSettings settings, load_cluster_settings(file, arguments.set, process_environment()));
  // The supervisor sends its children's standard error to logs/NAME.log, so that a crash's last words stand beside the rest.
  const bool supervised = ::isatty(STDERR_FILENO) == 0;
  const std::string log_file = absl::StrCat(arguments.state, "/logs/", log_name(arguments.name), ".log");
  CENOTE_RETURN_IF_ERROR(start_log({.name = arguments.name, .level = settings.log_level, .file = supervised ? log_file : "",
                                    .file_bytes_max = settings.log_file_bytes_max}));
  RoleContext context{.settings = std::move(settings), .name = arguments.name, .state_directory = arguments.state,
                      .overrides = arguments.set, .stop_fd = stop_fd};
  const absl::Status status = role.run(context);
  if (status.ok()) {
    LOG_INFO("ended");
  } else {
    LOG_ERROR("ended: {}", status.message());
  }
  return status;
}

int settings_command(const std::string& file, const std::vector<std::string>& set, bool json) {
  const absl::StatusOr<ClusterSettings> settings = load_cluster_settings(file, set, process_environment());
  if (!settings.ok()) {
    std::fprintf(stderr, "%s\n", std::string(settings.status().message()).c_str());
    return exit_code(settings.status().code());
  }
  if (json) {
    std::printf("%s\n", settings_json(*settings).c_str());
  } else {
    std::printf("%s: ok, cluster '%s': %zu routers, %zu memory servers, %zu agents\n", file.c_str(), settings->name.c_str(),
                settings->routers.size(), settings->memory.size(), settings->agents.size());
  }
  return 0;
}

int main_of(int argc, char** argv) {
  CLI::App app("Cenote's daemons. People use `cenote`, which starts these.\nExample: cenoted settings --file settings/local.toml");
  app.set_version_flag("--version", "cenoted " CENOTE_VERSION);
  app.require_subcommand(1);
  RoleArguments arguments;
  std::vector<std::pair<const RoleEntry*, CLI::App*>> roles;
  for (const RoleEntry& role : kRoles) {
    CLI::App* command = app.add_subcommand(role.name, role.what);
    command->footer(absl::StrCat("Example: cenoted ", role.name, " --state ~/.local/state/cenote/local --name ", role.example_name));
    command->add_option("--state", arguments.state, "The cluster's state directory (certificates, logs, sockets)")->required();
    command->add_option("--name", arguments.name, "This daemon's name in the settings")->required();
    command->add_option("--settings", arguments.settings, "Settings file; default: STATE/settings.toml");
    command->add_option("--set", arguments.set, "key=value, over file and environment")->expected(1)->take_all();
    roles.emplace_back(&role, command);
  }
  std::string file;
  bool json = false;
  CLI::App* settings = app.add_subcommand("settings", "Read and check a settings file");
  settings->footer("Example: cenoted settings --file settings/local.toml --json");
  settings->add_option("--file", file, "Settings file")->required();
  settings->add_option("--set", arguments.set, "key=value, over file and environment")->expected(1)->take_all();
  settings->add_flag("--json", json, "Print the resolved settings");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (settings->parsed()) return settings_command(file, arguments.set, json);
  const absl::StatusOr<int> stop_fd = open_stop_signal();
  if (!stop_fd.ok()) return fail("signals", stop_fd.status());
  for (const auto& [role, command] : roles) {
    if (!command->parsed()) continue;
    const absl::Status status = run_role(*role, arguments, *stop_fd);
    return status.ok() ? 0 : fail(absl::StrCat(role->name, " ", arguments.name), status);
  }
  return 2;
}

}  // namespace
}  // namespace cenote

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // A file at its limit is a write that fails, not an end.
  return cenote::main_of(argc, argv);
}
