// bin/process.h - a child process: its own log, killed with its parent, its end seen through a file descriptor. Linux.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace cenote {

struct ProcessSpec {
  std::vector<std::string> arguments;          // arguments[0]: the program's path.
  std::string log_file;                        // Standard output and error are appended there.
};

inline constexpr const char* kOrderlyExit = "exit 0";  // As poll_exit() says it.

// Thread-compatible. Destroying a running Process kills it and waits.
class Process {
 public:
  // The child gets SIGKILL when the spawning *thread* ends (PR_SET_PDEATHSIG), so spawn from one that lives long. Inherits no
  // descriptors but 0 (/dev/null), 1, 2; signals unblocked and at their defaults. Errors: of fork, open and exec (named).
  static absl::StatusOr<Process> spawn(const ProcessSpec& spec);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  int64_t pid() const { return pid_; }
  int exit_fd() const { return exit_fd_; }     // Readable once it has ended.
  // "exit 3", "signal 9 (Killed)"; empty while it runs. The first answer reaps it; later ones repeat it.
  std::optional<std::string> poll_exit();
  void signal(int number);                     // No effect once it has ended.

 private:
  Process() = default;
  void release();
  int64_t pid_ = 0;
  int exit_fd_ = -1;
  std::optional<std::string> how_;
};

// The last line of a log file, at most 300 characters; "" if there is none.
std::string last_log_line(const std::string& path);

}  // namespace cenote
