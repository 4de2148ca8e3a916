// disk/files.h - the file calls that the store makes, as an interface: posix_files.h has the system's; tests have one that forgets what
// was not synced, tears writes at any byte and refuses any call.
//
// Paths are the caller's business; every call may block on the disk. Files is thread-safe, a File belongs to one thread at a time.
//
// Errors: kNotFound (no such file), kResourceExhausted (the file system or quota is full, or descriptors ran out), kDataLoss (the device
// failed: EIO and its like), kPermissionDenied (also: read-only), the rest as errno_status has them. Messages name call and path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cenote::disk {

// What direct I/O asks of offsets, lengths and addresses here.
inline constexpr uint64_t kPageBytes = 4096;

// Bytes at a page's boundary; not initialised. Owns them.
class PageBuffer {
 public:
  explicit PageBuffer(uint64_t size_bytes);  // Whole pages.
  std::span<std::byte> bytes() const { return {bytes_.get(), size_bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  std::unique_ptr<std::byte, Free> bytes_;
  uint64_t size_bytes_;
};

class File {
 public:
  virtual ~File() = default;
  // Whole pages from a page's boundary to a page's boundary of the file. All of it or an error.
  virtual absl::Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) = 0;
  // As many bytes as there are, at most target's; both bounds whole pages.
  virtual absl::StatusOr<uint64_t> read(uint64_t offset_bytes, std::span<std::byte> target) = 0;
  virtual absl::StatusOr<uint64_t> size_bytes() = 0;
  // What was written is on the medium when it returns ok. After an error nothing is known of it: throw the file away.
  virtual absl::Status sync() = 0;
};

// Held until destroyed, or until the process ends in whatever way.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class Files {
 public:
  virtual ~Files() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> create(const std::string& path) = 0;  // For writing; emptied if it is there.
  virtual absl::StatusOr<std::unique_ptr<File>> open(const std::string& path) = 0;    // For reading.
  virtual absl::Status rename(const std::string& from, const std::string& to) = 0;    // Replaces `to`.
  virtual absl::Status remove(const std::string& path) = 0;
  virtual absl::Status make_folder(const std::string& path) = 0;                      // Ok if it is there. Parents must be.
  // Names that came, went or changed in this folder are on the medium when it returns ok.
  virtual absl::Status sync_folder(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> list(const std::string& path) = 0; // Names in it, sorted.
  // Makes the file if need be. kAlreadyExists: another process holds it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> free_bytes(const std::string& path) = 0;           // Of its file system, for this user.
};

}  // namespace cenote::disk
