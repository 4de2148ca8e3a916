#include "target_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <ctime>

#include "absl/strings/escaping.h"
#include "base/status.h"

extern char** environ;

namespace cenote::fabric {

TargetProcess::TargetProcess(const std::string& program, const std::string& provider, uint16_t port, size_t region_bytes) {
  int input[2];
  int output[2];
  CENOTE_CHECK(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  std::string arguments[] = {program, provider, std::to_string(port), std::to_string(region_bytes)};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), arguments[3].data(), nullptr};
  CENOTE_CHECK(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  FILE* lines = fdopen(output[0], "r");
  char hex[2 * kAddressBytesMax + 1];
  const int fields = std::fscanf(lines, "%512s %lx %lx %lx %lx", hex, &readable_.key, &readable_.base, &writable_.key, &writable_.base);
  std::fclose(lines);
  CENOTE_CHECK(fields == 5);
  address_ = {.provider = provider, .bytes = absl::HexStringToBytes(hex)};
}

TargetProcess::~TargetProcess() {
  close(input_);
  if (pid_ <= 0) return;
  kill(pid_, SIGCONT);
  // It ends by itself at the end of its input, and cleans up after itself; not if it hangs.
  for (int i = 0; i < 1000; ++i) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) return;
    usleep(10'000);
  }
  kill_and_reap();
}

uint16_t TargetProcess::port() const {
  CENOTE_CHECK(address_.bytes.size() >= 4);
  return static_cast<uint16_t>(static_cast<uint8_t>(address_.bytes[2]) << 8 | static_cast<uint8_t>(address_.bytes[3]));
}

void TargetProcess::signal(int number) { CENOTE_CHECK(pid_ > 0 && kill(pid_, number) == 0); }

void TargetProcess::kill_and_reap() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Duration TargetProcess::cpu_time() const {
  clockid_t clock;
  timespec time{};
  CENOTE_CHECK(clock_getcpuclockid(pid_, &clock) == 0 && clock_gettime(clock, &time) == 0);
  return {time.tv_sec * 1'000'000'000 + time.tv_nsec};
}

}  // namespace cenote::fabric
