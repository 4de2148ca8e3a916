// Goal: libfabric is loaded by its first use and not before, and loading it takes no signal from the process.
#include "fabric/libfabric/library.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

namespace cenote::fabric {
namespace {

void on_interrupt(int) {}

bool is_loaded(const std::string& library) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/" + library) != std::string::npos) return true;
  }
  return false;
}

// The first use comes once in a process, so each of these is a process of its own.
std::string after_loading(const char* name, const char* before) {
  int out[2];
  EXPECT_EQ(pipe(out), 0);
  const pid_t child = fork();
  if (child == 0) {
    before == nullptr ? unsetenv(name) : setenv(name, before, 1);
    if (!load_libfabric().ok()) _exit(1);
    const char* after = getenv(name);
    const std::string text = after == nullptr ? "unset" : after;
    _exit(write(out[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(out[1]);
  char text[64] = {};
  const ssize_t size = read(out[0], text, sizeof text - 1);
  close(out[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return {text, static_cast<size_t>(size < 0 ? 0 : size)};
}

TEST(Environment, caches_no_registrations_whatever_the_operator_set_because_the_cache_keeps_revoked_keys_alive) {
  EXPECT_EQ(after_loading("FI_MR_CACHE_MAX_COUNT", nullptr), "0");
  EXPECT_EQ(after_loading("FI_MR_CACHE_MAX_COUNT", "1024"), "0");
}

TEST(Environment, shares_receive_buffers_between_connections_unless_the_operator_says_otherwise) {
  EXPECT_EQ(after_loading("FI_OFI_RXM_USE_SRX", nullptr), "1");
  EXPECT_EQ(after_loading("FI_OFI_RXM_USE_SRX", "0"), "0");
}

// Last: from here on this process has the library.
TEST(Library, comes_with_its_first_use_and_leaves_signals_alone) {
  EXPECT_FALSE(is_loaded("libfabric.so"));
  ASSERT_NE(std::signal(SIGINT, on_interrupt), SIG_ERR);
  struct sigaction before[32] = {};
  for (int number = 1; number < 32; ++number) ::sigaction(number, nullptr, &before[number]);
  ASSERT_TRUE(load_libfabric().ok()) << load_libfabric();
  EXPECT_TRUE(is_loaded("libfabric.so"));
  for (int number = 1; number < 32; ++number) {
    struct sigaction now {};
    ::sigaction(number, nullptr, &now);
    EXPECT_EQ(now.sa_handler, before[number].sa_handler) << "signal " << number;
  }
}

}  // namespace
}  // namespace cenote::fabric
