// Goal: libfabric is loaded by its first use and not before, and loading it takes no signal from the process.
#include "fabric/libfabric/library.h"

#include <gtest/gtest.h>

#include <csignal>
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
