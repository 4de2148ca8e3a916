#include "wire/revoked.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/text.h"

namespace cenote::wire {

std::set<std::string> parse_revoked(std::string_view text) {
  std::set<std::string> serials;
  for (const absl::string_view line : absl::StrSplit(to_absl(text), '\n')) {
    absl::string_view serial = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    while (serial.size() > 1 && serial.front() == '0') serial.remove_prefix(1);
    const bool hexadecimal = !serial.empty() && serial.find_first_not_of("0123456789abcdefABCDEF") == absl::string_view::npos;
    if (hexadecimal) serials.insert(absl::AsciiStrToLower(serial));
  }
  return serials;
}

void RevokedCertificates::look() {
  const int64_t now = monotonic_now().ns;
  if (now < next_look_ns_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  if (now < next_look_ns_.load(std::memory_order_relaxed)) return;
  next_look_ns_.store(now + kLookInterval.ns, std::memory_order_relaxed);
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) {
    // A list that was there and is gone is kept: deleting a file must not let anybody in again.
    if (errno != ENOENT || !stamp_.empty()) LOG_WARNING("{}: {}; the {} certificates revoked before stay so", path_, std::strerror(errno), serials_.size());
    return;
  }
  std::string stamp = str_cat(info.st_size, " ", info.st_ino, " ", info.st_mtim.tv_sec, " ", info.st_mtim.tv_nsec);
  if (stamp == stamp_) return;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path_.c_str(), "rbe"), &std::fclose);
  std::string text(kRevokedBytesMax + 1, '\0');
  if (file != nullptr) text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (file == nullptr || std::ferror(file.get()) != 0 || text.size() > kRevokedBytesMax) {
    LOG_WARNING("{} cannot be read, or is larger than 4 MiB; the {} certificates revoked before stay so", path_, serials_.size());
    return;
  }
  serials_ = parse_revoked(text);
  stamp_ = std::move(stamp);
  version_.fetch_add(1, std::memory_order_relaxed);
  LOG_INFO("{}: {} certificates are revoked", path_, serials_.size());
}

bool RevokedCertificates::contains(const std::string& serial) {
  look();
  const std::lock_guard lock(mutex_);
  return serials_.contains(serial);
}

uint64_t RevokedCertificates::version() {
  look();
  return version_.load(std::memory_order_relaxed);
}

}  // namespace cenote::wire
