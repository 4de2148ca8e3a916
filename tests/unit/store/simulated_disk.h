// A disk in memory under SQLite, that can die, fill up or fail at any call, and then shows what a real one may: what was synced, and of
// what was not, any part. While one exists it is SQLite's default file system. One thread.
//
// Model: a write that was not synced survives a crash in any subset of its 512-byte sectors; a truncation survives or not; names of
// files are certain once any file was synced. A sync that fails loses what it should have made durable, though reads still show it.
#pragma once

#include <sqlite3.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"

namespace cenote {

enum class DiskFault { kNone, kDies, kFull, kIoError };
enum class Survival { kNothingUnsynced, kAll, kAnyPart };

class SimulatedDisk {
 public:
  SimulatedDisk();
  ~SimulatedDisk();
  SimulatedDisk(const SimulatedDisk&) = delete;
  SimulatedDisk& operator=(const SimulatedDisk&) = delete;

  // From the `at`-th call that changes something (from 1, counted from here on) the disk fails: at this call only, or `lasting` until
  // mend(). A dead disk stays so until crash().
  void fail_at(uint64_t at, DiskFault fault, bool lasting);
  void mend() { fault_ = DiskFault::kNone; }
  uint64_t calls() const { return calls_; }  // Since fail_at(), or the beginning.
  bool failed() const { return failed_; }
  // Which of these calls wrote into the file, or truncated it.
  std::vector<uint64_t> changes_of(const std::string& name) const;
  // The machine comes up again. No file may be open.
  void crash(Survival survival, Rng& rng);

  // For the functions that SQLite calls.
  struct Change {
    uint64_t offset = 0;
    std::string bytes;
    bool truncates = false;  // To `offset`.
  };
  struct File {
    std::string durable, current;
    std::vector<Change> pending;
  };
  std::shared_ptr<File> find(const std::string& name) const;
  std::shared_ptr<File> make(const std::string& name);
  int change(File& file, Change change);
  int sync(File& file);
  int remove(const std::string& name, bool durable);
  bool dead() const { return fault_ == DiskFault::kDies && failed_; }
  int system_error() const { return system_error_; }

 private:
  // What befalls this call.
  DiskFault next_fault();

  std::unique_ptr<sqlite3_vfs> vfs_;
  sqlite3_vfs* previous_;
  std::map<std::string, std::shared_ptr<File>> files_, durable_files_;
  DiskFault fault_ = DiskFault::kNone;
  bool lasting_ = false, failed_ = false;
  uint64_t at_ = 0, calls_ = 0;
  int system_error_ = 0;
  std::map<const File*, std::vector<uint64_t>> changes_;
  int open_ = 0;
  friend struct SimulatedDiskCalls;
};

}  // namespace cenote
