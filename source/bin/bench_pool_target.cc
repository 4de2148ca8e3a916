#include "bin/bench_pool_target.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>

#include "absl/strings/escaping.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/units.h"

extern char** environ;

namespace cenote {
namespace {

constexpr uint64_t kArenaSeed = 20'260'101;

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Listens at a port of the kernel's choice. -1: errno says why.
int listen_stream(uint16_t& port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return -1;
  }
  port = ntohs(address.sin_port);
  return listener;
}

// One client; each byte it sends is answered with the whole arena.
void serve_stream(int listener, const std::vector<std::byte>& arena) {
  const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  char request;
  while (recv(client, &request, 1, 0) == 1) {
    for (size_t sent = 0; sent < arena.size();) {
      const ssize_t n = send(client, arena.data() + sent, std::min<size_t>(kMiB, arena.size() - sent), MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
  }
  close(client);
}

}  // namespace

std::vector<std::byte> bench_arena(uint64_t size_bytes) {
  std::vector<std::byte> arena(size_bytes);
  Rng rng(kArenaSeed);
  for (uint64_t i = 0; i + sizeof(uint64_t) <= size_bytes; i += sizeof(uint64_t)) {
    const uint64_t word = rng.next();
    std::memcpy(arena.data() + i, &word, sizeof word);
  }
  return arena;
}

int run_bench_target(const fabric::TransportOptions& options, uint64_t arena_bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto failed = [](const absl::Status& status) {
    std::fprintf(stderr, "bench target: %s\n", std::string(status.message()).c_str());
    return exit_code(status.code());
  };
  auto transport = fabric::open_transport(options);
  if (!transport.ok()) return failed(transport.status());
  std::vector<std::byte> arena = bench_arena(arena_bytes);
  auto region = (*transport)->register_memory(arena, fabric::Access::kRemoteRead);
  if (!region.ok()) return failed(region.status());
  uint16_t stream_port = 0;
  const int listener = listen_stream(stream_port);
  if (listener < 0) return failed(errno_status(errno, "listening for the plain TCP stream"));
  std::printf("%s %" PRIx64 " %" PRIx64 " %u\n", absl::BytesToHexString((*transport)->address().bytes).c_str(),
              (*region)->key().key, (*region)->key().base, stream_port);
  std::fflush(stdout);

  std::atomic<bool> stopping{false};
  std::thread streams([&] { serve_stream(listener, arena); });
  std::thread parent([&] {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    stopping = true;
    shutdown(listener, SHUT_RDWR);  // Ends an accept that nobody will answer.
    (*transport)->wake();
  });
  while (!stopping) (*transport)->wait(Duration::from_seconds(10));
  parent.join();
  streams.join();
  close(listener);
  return 0;
}

absl::StatusOr<std::unique_ptr<BenchTarget>> BenchTarget::start(const fabric::TransportOptions& options, uint64_t arena_bytes) {
  std::unique_ptr<BenchTarget> target(new BenchTarget);
  int input[2];
  int output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) return errno_status(errno, "pipe for the bench target");
  target->input_ = input[1];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  std::string arguments[] = {"cenote-bench-pool", "--target", "--provider", options.provider, "--bind", options.bind_address,
                             "--arena-bytes", std::to_string(arena_bytes)};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int error = posix_spawn(&target->pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  FILE* lines = fdopen(output[0], "r");
  char hex[2 * fabric::kAddressBytesMax + 1] = {};
  static_assert(fabric::kAddressBytesMax == 256);
  unsigned port = 0;
  const int fields = error != 0 ? 0 : std::fscanf(lines, "%512s %" SCNx64 " %" SCNx64 " %u", hex, &target->key_.key, &target->key_.base, &port);
  std::fclose(lines);
  if (error != 0) {
    target->pid_ = -1;
    return errno_status(error, "starting the bench target");
  }
  if (fields != 4) return absl::UnavailableError("the bench target did not start; its message is above");
  target->address_ = {.provider = options.provider, .bytes = absl::HexStringToBytes(hex)};
  target->stream_port_ = static_cast<uint16_t>(port);
  return target;
}

BenchTarget::~BenchTarget() {
  if (input_ >= 0) close(input_);
  if (pid_ <= 0) return;
  for (int i = 0; i < 500; ++i) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) return;
    usleep(10'000);
  }
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Duration BenchTarget::cpu_time() const {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &time) != 0) return {};
  return {time.tv_sec * 1'000'000'000 + time.tv_nsec};
}

absl::StatusOr<int> BenchTarget::connect_stream() const {
  const int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(stream_port_);
  if (stream < 0 || connect(stream, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const absl::Status status = errno_status(errno, "connecting to the bench target's TCP stream");
    if (stream >= 0) close(stream);
    return status;
  }
  return stream;
}

}  // namespace cenote
