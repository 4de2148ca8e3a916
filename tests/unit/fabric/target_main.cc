// fabric_target PROVIDER PORT BYTES: a process that serves one read-only and one writable region, filled with patterns 1
// and 2, standing in wait(). Prints "address key base key base" as hexadecimal words, then serves until it is killed or its
// standard input ends.
#include <sys/prctl.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "absl/strings/escaping.h"
#include "base/status.h"
#include "fabric/transport.h"
#include "provider_address.h"

namespace cenote::fabric {
namespace {

std::vector<std::byte> filled(size_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(((i + seed) * 0x9e3779b97f4a7c15ull) >> 56);
  return bytes;
}

int run(const char* provider, int port, size_t size) {
  auto transport = open_transport({.provider = provider, .bind_address = bind_address_for(provider), .port = static_cast<uint16_t>(port)});
  if (!transport.ok()) {
    std::fprintf(stderr, "%s\n", std::string(transport.status().message()).c_str());
    return 1;
  }
  std::vector<std::byte> readable = filled(size, 1);
  std::vector<std::byte> writable = filled(size, 2);
  auto read_region = (*transport)->register_memory(readable, Access::kRemoteRead);
  auto write_region = (*transport)->register_memory(writable, Access::kRemoteReadWrite);
  CENOTE_CHECK(read_region.ok() && write_region.ok());
  std::printf("%s %lx %lx %lx %lx\n", absl::BytesToHexString((*transport)->address().bytes).c_str(), (*read_region)->key().key,
              (*read_region)->key().base, (*write_region)->key().key, (*write_region)->key().base);
  std::fflush(stdout);
  std::atomic<bool> stopping{false};
  std::thread until_the_test_ends([&] {
    char c;
    while (::read(STDIN_FILENO, &c, 1) > 0) {
    }
    stopping = true;
    (*transport)->wake();
  });
  while (!stopping) (*transport)->wait(Duration::from_seconds(10));
  until_the_test_ends.join();
  return 0;
}

}  // namespace
}  // namespace cenote::fabric

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return cenote::fabric::run(argv[1], std::atoi(argv[2]), std::strtoull(argv[3], nullptr, 10));
}
