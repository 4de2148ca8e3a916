// A certificate authority for tests: made in a temporary directory that is removed with the object.
#pragma once

#include <string>

namespace cenote::wire {

class TestCertificates {
 public:
  // Seconds from now; negative: expired.
  explicit TestCertificates(long valid_seconds = 3600);
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
};

}  // namespace cenote::wire
