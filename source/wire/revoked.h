// wire/revoked.h - certificates that count no more although they have not lapsed: <certificates>/revoked.txt, one serial a line in
// hexadecimal, with a comment after '#'. The file is looked at again at most once a second, when somebody asks; one that cannot be
// read leaves what was read before, and says so in the log. Thread-safe.
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace cenote::wire {

inline constexpr size_t kRevokedBytesMax = 4 << 20;

// Serials of the text, lower case without leading zeros; lines that are none are left out. Pure.
std::set<std::string> parse_revoked(std::string_view text);

class RevokedCertificates {
 public:
  explicit RevokedCertificates(std::string path) : path_(std::move(path)) {}

  bool contains(const std::string& serial);
  // Rises when the list changes: who keeps a connection asks again then. Costs a clock read.
  uint64_t version();

  static constexpr Duration kLookInterval = Duration::from_ms(1'000);

 private:
  void look();

  const std::string path_;
  std::atomic<int64_t> next_look_ns_{0};
  std::atomic<uint64_t> version_{1};
  std::mutex mutex_;
  std::string stamp_;  // Of the file: size and time of change; empty: none was there.
  std::set<std::string> serials_;
};

}  // namespace cenote::wire
