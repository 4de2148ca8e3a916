#include "disk/posix_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/status.h"
#include "base/units.h"

namespace cenote::disk {
namespace {

absl::Status failed(std::string_view call, const std::string& path) {
  const int error = errno;
  const std::string what = str_cat(call, " ", path);
  switch (error) {
    case EDQUOT: return absl::ResourceExhaustedError(str_cat(what, ": ", std::strerror(error)));
    case EROFS: return absl::PermissionDeniedError(str_cat(what, ": ", std::strerror(error)));
    case EIO:
    case EUCLEAN:
    case EBADMSG:
    case ENODEV:
    case ENXIO:
    case ESTALE: return absl::DataLossError(str_cat(what, ": ", std::strerror(error)));
    default: return errno_status(error, what);
  }
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);  // Nothing is left to be told: what matters was synced, and its error taken, before.
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : descriptor_(fd), path_(std::move(path)) {}

  absl::Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) override {
    CENOTE_CHECK(offset_bytes % kPageBytes == 0 && bytes.size() % kPageBytes == 0);
    while (!bytes.empty()) {
      const ssize_t wrote = ::pwrite(descriptor_.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return failed("write", path_);
      bytes = bytes.subspan(static_cast<size_t>(wrote));
      offset_bytes += static_cast<uint64_t>(wrote);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> read(uint64_t offset_bytes, std::span<std::byte> target) override {
    uint64_t total = 0;
    while (!target.empty()) {
      const ssize_t got = ::pread(descriptor_.fd(), target.data(), target.size(), static_cast<off_t>(offset_bytes));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failed("read", path_);
      if (got == 0) break;
      total += static_cast<uint64_t>(got);
      offset_bytes += static_cast<uint64_t>(got);
      target = target.subspan(static_cast<size_t>(got));
      if (got % static_cast<ssize_t>(kPageBytes) != 0) break;  // The end: what follows would not be aligned.
    }
    return total;
  }

  absl::StatusOr<uint64_t> size_bytes() override {
    struct stat found;
    if (::fstat(descriptor_.fd(), &found) != 0) return failed("stat", path_);
    return static_cast<uint64_t>(found.st_size);
  }

  absl::Status sync() override {
    if (::fdatasync(descriptor_.fd()) != 0) return failed("fdatasync", path_);
    return absl::OkStatus();
  }

 private:
  Descriptor descriptor_;
  std::string path_;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(int fd) : descriptor_(fd) {}

 private:
  Descriptor descriptor_;  // Closing it unlocks.
};

class Posix final : public Files {
 public:
  explicit Posix(bool direct) : direct_(direct ? O_DIRECT : 0) {}

  absl::StatusOr<std::unique_ptr<File>> create(const std::string& path) override {
    return opened(path, "create", O_WRONLY | O_CREAT | O_TRUNC | direct_);
  }
  absl::StatusOr<std::unique_ptr<File>> open(const std::string& path) override { return opened(path, "open", O_RDONLY | O_NOFOLLOW | direct_); }

  absl::Status rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : failed("rename", from);
  }
  absl::Status remove(const std::string& path) override { return ::unlink(path.c_str()) == 0 ? absl::OkStatus() : failed("remove", path); }
  absl::Status make_folder(const std::string& path) override {
    return ::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? absl::OkStatus() : failed("make folder", path);
  }
  absl::Status sync_folder(const std::string& path) override {
    const Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.fd() < 0) return failed("open", path);
    return ::fsync(folder.fd()) == 0 ? absl::OkStatus() : failed("fsync", path);
  }

  absl::StatusOr<std::vector<std::string>> list(const std::string& path) override {
    DIR* folder = ::opendir(path.c_str());
    if (folder == nullptr) return failed("open", path);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const absl::Status status = errno == 0 ? absl::OkStatus() : failed("list", path);
    ::closedir(folder);
    if (!status.ok()) return status;
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return failed("open", path);
    auto lock = std::make_unique<PosixLock>(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return absl::AlreadyExistsError(str_cat(path, " is held by another process"));
      return failed("lock", path);
    }
    return lock;
  }

  absl::StatusOr<uint64_t> free_bytes(const std::string& path) override {
    struct statvfs found;
    if (::statvfs(path.c_str(), &found) != 0) return failed("statvfs", path);
    return uint64_t{found.f_bavail} * found.f_frsize;
  }

 private:
  absl::StatusOr<std::unique_ptr<File>> opened(const std::string& path, std::string_view call, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (fd < 0) return failed(call, path);
    return std::make_unique<PosixFile>(fd, path);
  }

  const int direct_;
};

// Whether a page written and read back with direct I/O is the same page.
absl::Status try_direct(const std::string& path) {
  Posix direct(true);
  const PageBuffer page(kPageBytes), back(kPageBytes);
  std::fill(page.bytes().begin(), page.bytes().end(), std::byte{0x5a});
  CENOTE_ASSIGN_OR_RETURN(const auto written, direct.create(path));
  CENOTE_RETURN_IF_ERROR(written->write(0, page.bytes()));
  CENOTE_ASSIGN_OR_RETURN(const auto again, direct.open(path));
  CENOTE_ASSIGN_OR_RETURN(const uint64_t got, again->read(0, back.bytes()));
  const bool same = got == kPageBytes && std::equal(page.bytes().begin(), page.bytes().end(), back.bytes().begin());
  return same ? absl::OkStatus() : absl::UnimplementedError("a page came back different");
}

}  // namespace

PageBuffer::PageBuffer(uint64_t size_bytes) : bytes_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size_bytes))), size_bytes_(size_bytes) {
  CENOTE_CHECK(size_bytes > 0 && size_bytes % kPageBytes == 0);
  if (bytes_ == nullptr) throw std::bad_alloc();
}

void PageBuffer::Free::operator()(std::byte* bytes) const { std::free(bytes); }

PosixFiles open_posix_files(const std::string& folder) {
  const std::string probe = folder + "/probe";
  const absl::Status direct = try_direct(probe);
  (void)::unlink(probe.c_str());
  PosixFiles opened{.files = std::make_unique<Posix>(direct.ok()), .notes = {}};
  if (!direct.ok() && direct.code() != absl::StatusCode::kResourceExhausted) {
    opened.notes.push_back(str_cat("data_dir: no direct I/O in ", folder, ", reads and writes pass through the page cache"));
  }
  return opened;
}

}  // namespace cenote::disk
