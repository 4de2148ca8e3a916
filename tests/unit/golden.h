// tests/unit/golden.h - golden files: bytes that an encoding must give, kept in tests/data. UPDATE_GOLDEN=1
// writes them anew; a change of one is a change of a format that others have stored, so it needs a new
// version, not a new file.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "folders.h"

namespace cenote {

inline std::string read_golden(const std::string& name) {
  std::ostringstream bytes;
  bytes << std::ifstream(test_data(name), std::ios::binary).rdbuf();
  return bytes.str();
}

inline void expect_golden(const std::string& name, const std::string& actual) {
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    std::ofstream(test_data(name), std::ios::binary) << actual;
  }
  EXPECT_TRUE(read_golden(name) == actual)
      << "tests/data/" << name << " differs from what this code writes (" << actual.size() << " bytes)";
}

}  // namespace cenote
