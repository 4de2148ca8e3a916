// The supervisor of one host: joins node/supervisor.h with processes. Single thread; sleeps in poll().
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/status.h"
#include "bin/process.h"
#include "bin/roles.h"
#include "node/supervisor.h"

namespace cenote {
namespace {

constexpr int64_t kWriteAgainMs = 1000;

// Whether `host` is an address of this machine: whoever may bind it.
bool is_here(const std::string& host) {
  addrinfo hints{.ai_socktype = SOCK_DGRAM};
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return false;
  bool here = false;
  for (const addrinfo* entry = found; entry != nullptr && !here; entry = entry->ai_next) {
    const int fd = ::socket(entry->ai_family, entry->ai_socktype | SOCK_CLOEXEC, entry->ai_protocol);
    here = fd >= 0 && ::bind(fd, entry->ai_addr, entry->ai_addrlen) == 0;
    if (fd >= 0) ::close(fd);
  }
  ::freeaddrinfo(found);
  return here;
}

// "supervisor" looks after the daemons on this machine's addresses, "supervisor@HOST" after those whose host is HOST.
std::vector<node::SupervisedChild> children_of(const RoleContext& context) {
  const size_t at = context.name.find('@');
  const std::string host = at == std::string::npos ? "" : context.name.substr(at + 1);
  const auto ours = [&](const std::string& other) { return host.empty() ? is_here(other) : other == host; };
  std::vector<node::SupervisedChild> children;
  if (ours(context.settings.controller.host)) children.push_back({"controller", Role::kController});
  for (const auto& memory : context.settings.memory) {
    if (ours(memory.host)) children.push_back({memory.name, Role::kMemory});
  }
  for (const auto& agent : context.settings.agents) {
    if (ours(agent.host)) children.push_back({agent.name, Role::kAgent});
  }
  for (const auto& router : context.settings.routers) {
    if (ours(router.host)) children.push_back({router.name, Role::kRouter});
  }
  return children;
}

absl::StatusOr<int> take_lock(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return errno_status(errno, path);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int error = errno;
  ::close(fd);
  if (error != EWOULDBLOCK) return errno_status(error, path);
  return absl::AlreadyExistsError(
      absl::StrCat(path, " is held: a supervisor of this cluster runs on this host already; `cenote down` ends it"));
}

class SupervisorRole {
 public:
  SupervisorRole(const RoleContext& context, std::string program)
      : context_(context),
        program_(std::move(program)),
        machine_({.children = children_of(context), .drain_timeout = context.settings.drain_timeout}) {}

  absl::Status run() {
    if (machine_.children().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(context_.settings.file, ": no daemon of this cluster is on the host of ",
                                                     context_.name, "; see the host keys of its sections"));
    }
    step();
    while (!done_) {
      wait();
      step();
    }
    ::unlink(state_path().c_str());
    return absl::OkStatus();
  }

 private:
  std::string state_path() const { return absl::StrCat(context_.state_directory, "/supervisor.json"); }
  std::string log_path(const std::string& name) const { return absl::StrCat(context_.state_directory, "/logs/", name, ".log"); }

  void wait() {
    std::vector<pollfd> fds;
    if (!machine_.stopping()) fds.push_back({.fd = context_.stop_fd, .events = POLLIN, .revents = 0});
    for (const auto& [name, process] : processes_) fds.push_back({.fd = process.exit_fd(), .events = POLLIN, .revents = 0});
    const Instant next = machine_.next_deadline();
    int64_t timeout_ms = -1;
    if (next < Instant::infinite_future()) {
      timeout_ms = std::clamp<int64_t>((next - monotonic_now()).ns / 1'000'000 + 1, 0, 60'000);
    }
    if (!written_) timeout_ms = timeout_ms < 0 ? kWriteAgainMs : std::min(timeout_ms, kWriteAgainMs);
    ::poll(fds.data(), fds.size(), static_cast<int>(timeout_ms));
  }

  void step() {
    std::vector<node::SupervisorEvent> events;
    if (!machine_.stopping() && context_.stop_requested()) events.push_back(node::StopAsked{});
    for (auto it = processes_.begin(); it != processes_.end();) {
      if (const auto how = it->second.poll_exit()) {
        if (machine_.stopping() && *how == kOrderlyExit) {
          LOG_INFO("{} (pid {}) ended", it->first, it->second.pid());
        } else {
          LOG_WARNING("{} (pid {}) ended: {}; last log line: {}", it->first, it->second.pid(), *how, last_log_line(log_path(it->first)));
        }
        events.push_back(node::ChildExited{it->second.pid(), *how});
        it = processes_.erase(it);
      } else {
        ++it;
      }
    }
    bool changed = !written_;
    do {
      std::vector<node::SupervisorAction> actions;
      machine_.step(monotonic_now(), events, actions);
      events.clear();
      for (const auto& action : actions) {
        std::visit([&](const auto& a) { perform(a, events, changed); }, action);
      }
    } while (!events.empty());
    if (changed) write_state();
  }

  void perform(const node::StartChild& start, std::vector<node::SupervisorEvent>& events, bool&) {
    const Role role = machine_.children().at(start.name).child.role;
    ProcessSpec spec{.arguments = {program_, std::string(role_name(role)), "--state", context_.state_directory, "--name",
                                   start.name, "--settings", context_.settings.file},
                     .log_file = log_path(start.name)};
    for (const std::string& set : context_.overrides) spec.arguments.insert(spec.arguments.end(), {"--set", set});
    absl::StatusOr<Process> process = Process::spawn(spec);
    if (!process.ok()) {
      LOG_ERROR("{}: {}", start.name, process.status().message());
      events.push_back(node::ChildNotStarted{start.name, process.status()});
      return;
    }
    LOG_INFO("started {} as pid {}", start.name, process->pid());
    events.push_back(node::ChildStarted{start.name, process->pid()});
    processes_.emplace(start.name, *std::move(process));
  }
  void perform(const node::SignalChild& signal, std::vector<node::SupervisorEvent>&, bool&) {
    for (auto& [name, process] : processes_) {
      if (process.pid() == signal.pid) process.signal(signal.signal);
    }
  }
  void perform(const node::ChildChanged&, std::vector<node::SupervisorEvent>&, bool& changed) { changed = true; }
  void perform(const node::StopDone&, std::vector<node::SupervisorEvent>&, bool&) { done_ = true; }

  // What `cenote` reads: replaced as a whole, so a reader never sees half of it. On a full disk it is stale until there is room again.
  void write_state() {
    nlohmann::json state = {{"version", 1}, {"pid", ::getpid()}, {"children", nlohmann::json::array()}};
    for (const auto& [name, child] : machine_.children()) {
      state["children"].push_back({{"name", name}, {"role", role_name(child.child.role)}, {"pid", child.pid},
                                   {"restarts", child.restarts}, {"last_exit", child.last_exit}});
    }
    const std::string path = state_path(), next = absl::StrCat(path, ".new");
    std::ofstream file(next, std::ios::trunc);
    file << state.dump(2) << "\n";
    file.close();
    const bool written = file && std::rename(next.c_str(), path.c_str()) == 0;
    if (!written && written_) LOG_ERROR("cannot write {}: is its disk full? It is tried again each second", path);
    if (written && !written_) LOG_INFO("{} is written again", path);
    written_ = written;
  }

  const RoleContext& context_;
  const std::string program_;
  node::Supervisor machine_;
  std::map<std::string, Process> processes_;
  bool done_ = false;
  bool written_ = true;  // What state_path() says is so.
};

}  // namespace

absl::Status run_supervisor(const RoleContext& context) {
  CENOTE_ASSIGN_OR_RETURN(const int lock, take_lock(absl::StrCat(context.state_directory, "/supervisor.lock")));
  char program[4096];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program);
  if (length <= 0) return errno_status(errno, "/proc/self/exe");
  const absl::Status status = SupervisorRole(context, std::string(program, length)).run();
  ::close(lock);
  return status;
}

}  // namespace cenote
