// tests/unit/disk/fake_files.h - a disk that keeps what was synced apart from what was not. It can stop at any call, in the middle of a
// write too; what comes back after the "power failure" is what a file system owes: synced bytes and synced names, and of the rest
// whatever the dice say, in units of a 512 B sector for bytes and of whole changes for names.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "disk/files.h"

namespace cenote::disk {

class FakeFiles final : public Files {
 public:
  // ---- what the test decides ---------------------------------------------------------------------------------------------
  // The call with this number (from 0) and all after it do not happen; a write keeps its first `torn_bytes`.
  void crash_at(uint64_t call, uint64_t torn_bytes = 0) {
    crash_at_ = call;
    torn_bytes_ = torn_bytes;
  }
  // Asked before each call by its name ("write", "fdatasync", ...) and path; not ok: the call fails with it and does nothing.
  std::function<absl::Status(std::string_view call, const std::string& path)> refuse;
  uint64_t capacity_bytes = UINT64_MAX;  // Of all files together; beyond it writes fail as a full disk's do.

  // Power comes back. Every change that was not synced is kept or lost by `seed`; 0: all lost, 1: all kept.
  void recover(uint64_t seed);

  uint64_t calls() const { return calls_; }
  bool crashed() const { return crashed_; }
  std::vector<std::string> names() const;                     // Of all files.
  std::string& bytes_of(const std::string& path);             // For spoiling.

  absl::StatusOr<std::unique_ptr<File>> create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<File>> open(const std::string& path) override;
  absl::Status rename(const std::string& from, const std::string& to) override;
  absl::Status remove(const std::string& path) override;
  absl::Status make_folder(const std::string& path) override;
  absl::Status sync_folder(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> list(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> lock(const std::string& path) override;
  absl::StatusOr<uint64_t> free_bytes(const std::string& path) override;

 private:
  friend class FakeFile;
  friend class FakeLock;
  struct Write {
    uint64_t offset = 0;
    std::string bytes;
  };
  struct Content {
    std::string now;              // What reads see.
    std::string synced;
    std::vector<Write> unsynced;  // Since the last sync, in order.
  };
  using Names = std::map<std::string, std::shared_ptr<Content>>;
  struct Change {  // Of one folder's names; a rename is one.
    std::string add, remove;
    std::shared_ptr<Content> content;
  };
  struct Folder {
    Names now, synced;
    std::vector<Change> unsynced;
  };

  // Counts the call. Not ok: refused, or the crash has come.
  absl::Status begin(std::string_view call, const std::string& path);
  Folder* folder_of(const std::string& path);
  std::shared_ptr<Content> find(const std::string& path);
  static void apply(const Change& change, Names& names);
  uint64_t used_bytes() const;

  std::map<std::string, Folder> folders_{{"", {}}};
  std::map<std::string, bool> locks_;
  uint64_t calls_ = 0;
  uint64_t crash_at_ = UINT64_MAX;
  uint64_t torn_bytes_ = 0;
  bool crashed_ = false;
};

}  // namespace cenote::disk
