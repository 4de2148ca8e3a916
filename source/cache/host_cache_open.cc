// Where the shared memory comes from: a private tmpfs, or a file in a shared one.
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/status.h"
#include "base/units.h"
#include "cache/host_cache_shared.h"

namespace cenote::cache {
namespace {

namespace ipc = boost::interprocess;

absl::Status check_name(const std::string& name) {
  if (name.empty() || name.size() > 128) {
    return absl::InvalidArgumentError(str_cat("cache name \"", name, "\" must have 1 to 128 characters"));
  }
  for (const char c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') {
      return absl::InvalidArgumentError(
          str_cat("cache name \"", name, "\" may hold letters, digits, '-', '_' and '.' only"));
    }
  }
  return absl::OkStatus();
}

// Locks a fresh, empty file at `path`. A file left by a dead agent is unlinked first, not reused: executors that outlived it may
// still read the old bytes.
absl::StatusOr<int> lock_fresh_file(const std::string& path) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno_status(errno, str_cat("cannot create the cache ", path));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      close(fd);
      return absl::AlreadyExistsError(str_cat("the cache ", path, " belongs to an agent that is running; give this one another name"));
    }
    struct stat mine {};
    struct stat named {};
    const bool same = fstat(fd, &mine) == 0 && stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino;
    if (same && mine.st_size == 0) return fd;
    if (same) unlink(path.c_str());
    close(fd);
  }
  return absl::AbortedError(str_cat("the cache ", path, " is being replaced by others all the time; give this agent another name"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostCache>> HostCache::create(const HostCacheOptions& options) {
  CENOTE_RETURN_IF_ERROR(check_name(options.name));
  if (options.data_bytes < kHugePageBytes) {
    return absl::InvalidArgumentError(str_cat("a cache of ", format_bytes(options.data_bytes), " is too small; at least 2 MiB"));
  }
  std::unique_ptr<HostCache> cache(new HostCache);
  cache->data_bytes_ = options.data_bytes / kHugePageBytes * kHugePageBytes;
  cache->word_count_ = word_count_of(cache->data_bytes_);
  cache->file_bytes_ = data_offset_of(cache->word_count_) + cache->data_bytes_;

  struct sysinfo host {};
  const uint64_t memory = sysinfo(&host) == 0 ? static_cast<uint64_t>(host.totalram) * host.mem_unit : UINT64_MAX;
  if (cache->data_bytes_ > memory) {
    return absl::ResourceExhaustedError(str_cat("cache_capacity ", format_bytes(options.data_bytes),
                                                " is more than this host's memory of ", format_bytes(memory), "; lower it"));
  }
  bool mounted = false;
  if (!options.mount_point.empty()) {
    const absl::Status status = cache->mount_private(options);
    mounted = status.ok();
    if (!mounted) {
      cache->note_ = str_cat("cache: no tmpfs of its own (", to_std(status.message()), "), using ", options.directory);
    }
  }
  HostCacheOptions where = options;
  if (mounted) where.directory = options.mount_point;
  cache->shared_directory_ = !mounted;
  CENOTE_RETURN_IF_ERROR(cache->open_file(where));
  CENOTE_RETURN_IF_ERROR(cache->map_file(options.incarnation));
  return cache;
}

absl::Status HostCache::mount_private(const HostCacheOptions& options) {
  if (geteuid() != 0) return absl::PermissionDeniedError("mounting needs root");
  if (mkdir(options.mount_point.c_str(), 0700) != 0 && errno != EEXIST) {
    return errno_status(errno, str_cat("mkdir ", options.mount_point));
  }
  if (unshare(CLONE_NEWNS) != 0) return errno_status(errno, "unshare(CLONE_NEWNS)");
  // What is mounted from here on stays in this namespace.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return errno_status(errno, "mount(/, slave)");
  const std::string size = str_cat("mode=0700,size=", file_bytes_ + 2 * kHugePageBytes);
  const std::string huge = str_cat("huge=always,", size);
  constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount("cenote", options.mount_point.c_str(), "tmpfs", kFlags, huge.c_str()) == 0) return absl::OkStatus();
  const int huge_error = errno;
  if (mount("cenote", options.mount_point.c_str(), "tmpfs", kFlags, size.c_str()) != 0) {
    return errno_status(errno, str_cat("mount tmpfs on ", options.mount_point));
  }
  note_ = str_cat("cache: no huge pages (", strerror(huge_error), "), using 4 KiB pages");
  return absl::OkStatus();
}

absl::Status HostCache::open_file(const HostCacheOptions& options) {
  path_ = str_cat(options.directory, "/cenote-", options.name, ".cache");
  CENOTE_ASSIGN_OR_RETURN(fd_, lock_fresh_file(path_));
  struct statvfs file_system {};
  if (fstatvfs(fd_, &file_system) != 0) return errno_status(errno, str_cat("statvfs ", path_));
  const uint64_t room = static_cast<uint64_t>(file_system.f_bavail) * file_system.f_frsize;
  if (room < file_bytes_) {
    return absl::ResourceExhaustedError(str_cat("cache_capacity ", format_bytes(data_bytes_), " does not fit into ", options.directory,
                                                ", which has ", format_bytes(room),
                                                " free; lower it or set cache_directory to a larger tmpfs"));
  }
  if (ftruncate(fd_, static_cast<off_t>(file_bytes_)) != 0) return errno_status(errno, str_cat("size ", path_));
  return absl::OkStatus();
}

absl::Status HostCache::map_file(Incarnation incarnation) {
  const uint64_t data_offset = data_offset_of(word_count_);
  try {
    shared_ = std::make_unique<Shared>();
    shared_->file = ipc::file_mapping(path_.c_str(), ipc::read_write);
    shared_->control = ipc::mapped_region(shared_->file, ipc::read_write, 0, data_offset);
    shared_->data =
        ipc::mapped_region(shared_->file, ipc::read_write, static_cast<ipc::offset_t>(data_offset), data_bytes_);
  } catch (const ipc::interprocess_exception& e) {
    return absl::ResourceExhaustedError(str_cat("cannot map the cache ", path_, " of ", format_bytes(file_bytes_), ": ", e.what()));
  }
  auto* base = static_cast<std::byte*>(shared_->control.get_address());
  words_ = reinterpret_cast<Word*>(base + kWordsOffset);
  waiters_ = reinterpret_cast<Waiters*>(base + kWaitersOffset);
  data_ = {static_cast<std::byte*>(shared_->data.get_address()), data_bytes_};
  auto* header = reinterpret_cast<Header*>(base);
  *header = {.magic = kCacheMagic,
             .version = kCacheVersion,
             .word_count = word_count_,
             .words_offset = kWordsOffset,
             .data_offset = data_offset,
             .data_bytes = data_bytes_,
             .incarnation = incarnation};
  return absl::OkStatus();
}

HostCache::~HostCache() {
  // The mount itself goes with the namespace, when the last process in it ends.
  if (fd_ >= 0) {
    unlink(path_.c_str());
    close(fd_);
  }
}

}  // namespace cenote::cache
