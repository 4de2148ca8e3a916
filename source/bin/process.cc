#include "bin/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/status.h"

namespace cenote {
namespace {

int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// In the child between fork and exec: only async-signal-safe calls. Reports a failed exec through `error_pipe`.
[[noreturn]] void become(char* const* arguments, int log, int null, int error_pipe, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // It died before the line above.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ::setsid();  // Ctrl-C at the terminal that started the cluster is not for its daemons.
  ::dup2(null, 0);
  ::dup2(log, 1);
  ::dup2(log, 2);
  if (error_pipe != 3) ::dup2(error_pipe, 3);
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  ::syscall(SYS_close_range, 4u, ~0u, 0u);
  ::execv(arguments[0], arguments);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(3, &error, sizeof error);
  ::_exit(127);
}

std::string describe_exit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    return absl::StrCat("signal ", number, " (", ::strsignal(number), ")");
  }
  return absl::StrCat("exit ", WEXITSTATUS(wait_status));
}

}  // namespace

absl::StatusOr<Process> Process::spawn(const ProcessSpec& spec) {
  CENOTE_CHECK(!spec.arguments.empty());
  std::vector<char*> arguments;
  for (const std::string& argument : spec.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int log = ::open(spec.log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (log < 0) return errno_status(errno, absl::StrCat("log file ", spec.log_file));
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  int pipe[2] = {-1, -1};
  absl::Status status;
  if (null < 0 || ::pipe2(pipe, O_CLOEXEC) != 0) status = errno_status(errno, "descriptors for a child process");
  const pid_t parent = ::getpid();
  const pid_t pid = status.ok() ? ::fork() : -1;
  if (pid == 0) become(arguments.data(), log, null, pipe[1], parent);
  if (status.ok() && pid < 0) status = errno_status(errno, absl::StrCat("fork for ", spec.arguments[0]));
  for (int fd : {log, null, pipe[1]}) {
    if (fd >= 0) ::close(fd);
  }
  int error = 0;
  if (status.ok() && ::read(pipe[0], &error, sizeof error) == sizeof error) {  // Ends at exec: the pipe is closed by it.
    status = errno_status(error, absl::StrCat("start ", spec.arguments[0]));
    ::waitpid(pid, nullptr, 0);  // No deadline: it could not exec and has left.
  }
  if (pipe[0] >= 0) ::close(pipe[0]);
  CENOTE_RETURN_IF_ERROR(status);
  Process process;
  process.pid_ = pid;
  process.exit_fd_ = open_pidfd(pid);
  if (process.exit_fd_ < 0) return errno_status(errno, "pidfd_open");
  return process;
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), exit_fd_(std::exchange(other.exit_fd_, -1)), how_(std::move(other.how_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    release();
    pid_ = std::exchange(other.pid_, 0);
    exit_fd_ = std::exchange(other.exit_fd_, -1);
    how_ = std::move(other.how_);
  }
  return *this;
}

Process::~Process() { release(); }

void Process::release() {
  if (pid_ != 0 && !how_) {
    ::kill(static_cast<pid_t>(pid_), SIGKILL);
    ::waitpid(static_cast<pid_t>(pid_), nullptr, 0);  // No deadline: it was killed.
  }
  if (exit_fd_ >= 0) ::close(exit_fd_);
  pid_ = 0;
  exit_fd_ = -1;
}

std::optional<std::string> Process::poll_exit() {
  if (how_ || pid_ == 0) return how_;
  int wait_status = 0;
  const pid_t ended = ::waitpid(static_cast<pid_t>(pid_), &wait_status, WNOHANG);
  if (ended == pid_) how_ = describe_exit(wait_status);
  return how_;
}

void Process::signal(int number) {
  if (pid_ != 0 && !how_) ::kill(static_cast<pid_t>(pid_), number);
}

std::string last_log_line(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const auto size = static_cast<int64_t>(file.tellg());
  file.seekg(std::max<int64_t>(0, size - 4096));
  std::string line, last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line.substr(0, 300);
  }
  return last;
}

}  // namespace cenote
