// A certificate authority for tests: made in a temporary directory that is removed with the object.
#pragma once

#include <memory>
#include <string>

namespace cenote::wire {

class TestCertificates {
 public:
  // Seconds from now; negative: expired. The client's role is operator.
  explicit TestCertificates(long valid_seconds = 3600);
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  const std::string& directory() const { return directory_; }

  // Puts NAME.key and NAME.crt there, signed by the authority. `names`: as OpenSSL writes them, "URI:cenote://test/role/client";
  // empty: none.
  void issue(const std::string& name, const std::string& names, long valid_seconds = 3600);
  // The same for another, newly made authority: ca.crt holds the old and the new one from then on, and issue() uses the new one.
  void roll_over();

 private:
  struct Authority;
  std::string directory_;
  std::unique_ptr<Authority> authority_;
};

}  // namespace cenote::wire
