#include "store/audit_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/time/time.h"
#include "base/status.h"

namespace cenote {
namespace {

absl::Status failed(const std::string& path, int error) {
  const absl::Status status = errno_status(error == EFBIG || error == EDQUOT ? ENOSPC : error, str_cat("audit log ", path));
  return absl::Status(status.code(), str_cat(status.message(), "; nothing is changed that cannot be written there: make room on its disk, or set audit.required to false"));
}

class FileAuditLog final : public AuditLog {
 public:
  FileAuditLog(std::string path, uint64_t file_bytes_max) : path_(std::move(path)), file_bytes_max_(file_bytes_max) {}
  ~FileAuditLog() override {
    if (fd_ >= 0) ::close(fd_);
  }

  absl::Status reopen() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat info {};
    if (fd_ < 0 || ::fstat(fd_, &info) != 0) return failed(path_, errno);
    bytes_ = static_cast<uint64_t>(info.st_size);
    char last = '\n';
    // A crash cut the last line short: what follows is not to be lost with it.
    if (bytes_ > 0 && ::pread(fd_, &last, 1, info.st_size - 1) == 1 && last != '\n') return write_whole("\n");
    return sync_directory();
  }

  absl::Status append(std::string_view line) override {
    const std::string text = str_cat(line, "\n");
    if (fd_ < 0) CENOTE_RETURN_IF_ERROR(reopen());  // It failed before; what was wrong may have passed.
    if (bytes_ > 0 && bytes_ + text.size() > file_bytes_max_) {
      if (std::rename(path_.c_str(), (path_ + ".1").c_str()) != 0) return failed(path_, errno);
      CENOTE_RETURN_IF_ERROR(reopen());
    }
    return write_whole(text);
  }

 private:
  absl::Status write_whole(const std::string& text) {
    size_t done = 0;
    int error = 0;
    while (done < text.size() && error == 0) {
      const ssize_t written = ::write(fd_, text.data() + done, text.size() - done);
      if (written > 0) done += static_cast<size_t>(written);
      if (written == 0 || (written < 0 && errno != EINTR)) error = written == 0 ? EIO : errno;
    }
    if (error == 0 && ::fdatasync(fd_) != 0) error = errno;
    if (error == 0) {
      bytes_ += text.size();
      return absl::OkStatus();
    }
    // What did get there is taken back; where even that fails, the next try begins with a line end.
    if (::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0) {
      ::close(fd_);
      fd_ = -1;
    }
    return failed(path_, error);
  }

  absl::Status sync_directory() {
    const int directory = ::open(std::filesystem::path(path_).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = directory < 0 || ::fsync(directory) != 0 ? errno : 0;
    if (directory >= 0) ::close(directory);
    return error == 0 ? absl::OkStatus() : failed(path_, error);
  }

  const std::string path_;
  const uint64_t file_bytes_max_;
  int fd_ = -1;
  uint64_t bytes_ = 0;
};

nlohmann::json common(const AuditEntry& entry, int64_t time_us, const char* phase) {
  const auto cut = [](std::string_view text) { return std::string(text.substr(0, kAuditTextBytesMax)); };
  nlohmann::json what = nlohmann::json::object();
  for (const auto& [key, value] : entry.what) what[key] = cut(value);
  return {{"id", entry.id},
          {"phase", phase},
          {"time", utc_text(time_us)},
          {"action", entry.action},
          {"what", what},
          {"who",
           {{"subject", cut(entry.who.subject)},
            {"role", caller_role_name(entry.who.role)},
            {"tenant", entry.who.tenant},
            {"serial", entry.who.serial},
            {"peer", cut(entry.who.peer)}}}};
}

std::string text_of(const nlohmann::json& json) { return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

// "permission_denied", as errors of the tool have it.
std::string code_name(absl::StatusCode code) {
  if (code == absl::StatusCode::kOk) return "ok";
  std::string name = absl::StatusCodeToString(code);
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return name;
}

}  // namespace

std::string utc_text(int64_t time_us) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromUnixMicros(time_us), absl::UTCTimeZone());
}

std::string audit_begin(const AuditEntry& entry, int64_t time_us) { return text_of(common(entry, time_us, "begin")); }

std::string audit_end(const AuditEntry& entry, int64_t time_us, const absl::Status& outcome) {
  nlohmann::json line = common(entry, time_us, "end");
  line["outcome"] = code_name(outcome.code());
  line["message"] = std::string(to_std(outcome.message()).substr(0, kAuditTextBytesMax));
  return text_of(line);
}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::open(const std::string& path, uint64_t file_bytes_max) {
  const std::string directory = std::filesystem::path(path).parent_path();
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return failed(path, errno);
  auto log = std::make_unique<FileAuditLog>(path, file_bytes_max);
  CENOTE_RETURN_IF_ERROR(log->reopen());
  return log;
}

}  // namespace cenote
