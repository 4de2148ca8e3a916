#include "simulated_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace cenote {
namespace {

constexpr size_t kSectorBytes = 512;

void take_effect(const SimulatedDisk::Change& change, std::string& bytes) {
  if (change.truncates) {
    bytes.resize(change.offset);
    return;
  }
  if (bytes.size() < change.offset + change.bytes.size()) bytes.resize(change.offset + change.bytes.size());
  bytes.replace(change.offset, change.bytes.size(), change.bytes);
}

// Each sector that the write touches, or not.
void take_part_effect(const SimulatedDisk::Change& change, std::string& bytes, Rng& rng) {
  if (change.truncates) {
    if (rng.below(2) == 0) take_effect(change, bytes);
    return;
  }
  for (uint64_t begin = change.offset; begin < change.offset + change.bytes.size();) {
    const uint64_t end = std::min<uint64_t>((begin / kSectorBytes + 1) * kSectorBytes, change.offset + change.bytes.size());
    if (rng.below(2) == 0) take_effect({.offset = begin, .bytes = change.bytes.substr(begin - change.offset, end - begin)}, bytes);
    begin = end;
  }
}

struct Handle {
  sqlite3_file base;
  SimulatedDisk* disk;
  std::shared_ptr<SimulatedDisk::File>* file;
};

Handle& of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file); }
SimulatedDisk& of(sqlite3_vfs* vfs) { return *static_cast<SimulatedDisk*>(vfs->pAppData); }

int read(sqlite3_file* file, void* target, int size, sqlite3_int64 offset) {
  if (of(file).disk->dead()) return SQLITE_IOERR_READ;
  const std::string& bytes = (*of(file).file)->current;
  const size_t begin = std::min<size_t>(static_cast<size_t>(offset), bytes.size());
  const size_t there = std::min<size_t>(static_cast<size_t>(size), bytes.size() - begin);
  std::memcpy(target, bytes.data() + begin, there);
  std::memset(static_cast<char*>(target) + there, 0, static_cast<size_t>(size) - there);
  return there == static_cast<size_t>(size) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}
int write(sqlite3_file* file, const void* source, int size, sqlite3_int64 offset) {
  return of(file).disk->change(**of(file).file, {.offset = static_cast<uint64_t>(offset), .bytes = std::string(static_cast<const char*>(source), static_cast<size_t>(size))});
}
int truncate(sqlite3_file* file, sqlite3_int64 size) {
  return of(file).disk->change(**of(file).file, {.offset = static_cast<uint64_t>(size), .truncates = true});
}
int sync(sqlite3_file* file, int) { return of(file).disk->sync(**of(file).file); }
int file_size(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>((*of(file).file)->current.size());
  return SQLITE_OK;
}
int lock(sqlite3_file*, int) { return SQLITE_OK; }
int check_lock(sqlite3_file*, int* held) { return *held = 0, SQLITE_OK; }
int control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sector_size(sqlite3_file*) { return 4096; }
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }  // As SQLite's own for Unix.

}  // namespace

struct SimulatedDiskCalls {
  static int close(sqlite3_file* file) {
    --of(file).disk->open_;
    delete of(file).file;
    return SQLITE_OK;
  }
  static int open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    static const sqlite3_io_methods kMethods = [] {
      sqlite3_io_methods methods{};
      methods.iVersion = 1;  // No shared memory: the store must not need it.
      methods.xClose = close;
      methods.xRead = read;
      methods.xWrite = write;
      methods.xTruncate = truncate;
      methods.xSync = cenote::sync;
      methods.xFileSize = file_size;
      methods.xLock = methods.xUnlock = lock;
      methods.xCheckReservedLock = check_lock;
      methods.xFileControl = control;
      methods.xSectorSize = sector_size;
      methods.xDeviceCharacteristics = characteristics;
      return methods;
    }();
    file->pMethods = nullptr;
    SimulatedDisk& disk = of(vfs);
    std::shared_ptr<SimulatedDisk::File> found = name == nullptr ? std::make_shared<SimulatedDisk::File>() : disk.find(name);
    if (found == nullptr && (flags & SQLITE_OPEN_CREATE) != 0) found = disk.make(name);
    if (found == nullptr || disk.dead()) return SQLITE_CANTOPEN;
    if (out_flags != nullptr) *out_flags = flags;
    of(file).disk = &disk;
    of(file).file = new std::shared_ptr<SimulatedDisk::File>(std::move(found));
    file->pMethods = &kMethods;
    ++disk.open_;
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* vfs, const char* name, int durable) { return of(vfs).remove(name, durable != 0); }
  static int access(sqlite3_vfs* vfs, const char* name, int, int* there) {
    const auto file = of(vfs).find(name);
    *there = file != nullptr && !file->current.empty();
    return SQLITE_OK;
  }
  static int full_path(sqlite3_vfs*, const char* name, int size, char* out) {
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
  }
  static int last_error(sqlite3_vfs* vfs, int, char*) { return of(vfs).system_error(); }
};

SimulatedDisk::SimulatedDisk() : vfs_(std::make_unique<sqlite3_vfs>()), previous_(sqlite3_vfs_find(nullptr)) {
  *vfs_ = *previous_;  // Time, randomness and sleep stay as they are.
  vfs_->iVersion = 1;
  vfs_->szOsFile = sizeof(Handle);
  vfs_->pNext = nullptr;
  vfs_->zName = "simulated";
  vfs_->pAppData = this;
  vfs_->xOpen = SimulatedDiskCalls::open;
  vfs_->xDelete = SimulatedDiskCalls::remove;
  vfs_->xAccess = SimulatedDiskCalls::access;
  vfs_->xFullPathname = SimulatedDiskCalls::full_path;
  vfs_->xGetLastError = SimulatedDiskCalls::last_error;
  CENOTE_CHECK(sqlite3_vfs_register(vfs_.get(), 1) == SQLITE_OK);
}

SimulatedDisk::~SimulatedDisk() {
  CENOTE_CHECK(open_ == 0);
  sqlite3_vfs_unregister(vfs_.get());
  sqlite3_vfs_register(previous_, 1);
}

void SimulatedDisk::fail_at(uint64_t at, DiskFault fault, bool lasting) {
  at_ = at;
  fault_ = fault;
  lasting_ = lasting;
  failed_ = false;
  calls_ = 0;
}

DiskFault SimulatedDisk::next_fault() {
  ++calls_;
  if (fault_ == DiskFault::kNone || calls_ < at_ || (calls_ > at_ && !lasting_ && fault_ != DiskFault::kDies)) return DiskFault::kNone;
  failed_ = true;
  system_error_ = fault_ == DiskFault::kFull ? ENOSPC : EIO;
  return fault_;
}

std::shared_ptr<SimulatedDisk::File> SimulatedDisk::find(const std::string& name) const {
  const auto file = files_.find(name);
  return file == files_.end() ? nullptr : file->second;
}

std::vector<uint64_t> SimulatedDisk::changes_of(const std::string& name) const {
  const auto changes = changes_.find(files_.at(name).get());
  return changes == changes_.end() ? std::vector<uint64_t>() : changes->second;
}

std::shared_ptr<SimulatedDisk::File> SimulatedDisk::make(const std::string& name) {
  if (next_fault() != DiskFault::kNone) return nullptr;
  return files_[name] = std::make_shared<File>();
}

int SimulatedDisk::change(File& file, Change change) {
  const bool first = !failed_;
  const DiskFault fault = next_fault();
  if (fault == DiskFault::kDies && !first) return SQLITE_IOERR;
  if (fault == DiskFault::kFull && change.truncates) return SQLITE_OK;  // A full disk lets go of room.
  if (fault == DiskFault::kFull || fault == DiskFault::kIoError) {
    if (!change.truncates) {  // Half of it was written.
      change.bytes.resize(change.bytes.size() / 2);
      take_effect(change, file.current);
      file.pending.push_back(std::move(change));
    }
    return fault == DiskFault::kFull ? SQLITE_FULL : SQLITE_IOERR_WRITE;
  }
  changes_[&file].push_back(calls_);
  take_effect(change, file.current);
  file.pending.push_back(std::move(change));
  return fault == DiskFault::kDies ? SQLITE_IOERR : SQLITE_OK;
}

int SimulatedDisk::sync(File& file) {
  const DiskFault fault = next_fault();
  if (fault == DiskFault::kDies) return SQLITE_IOERR;
  if (fault != DiskFault::kNone) {
    file.pending.clear();
    return fault == DiskFault::kFull ? SQLITE_FULL : SQLITE_IOERR_FSYNC;
  }
  for (const Change& change : std::exchange(file.pending, {})) take_effect(change, file.durable);
  durable_files_ = files_;
  return SQLITE_OK;
}

int SimulatedDisk::remove(const std::string& name, bool durable) {
  const DiskFault fault = next_fault();
  if (fault == DiskFault::kDies || fault == DiskFault::kIoError) return SQLITE_IOERR_DELETE;
  files_.erase(name);
  if (durable) durable_files_ = files_;
  return SQLITE_OK;
}

void SimulatedDisk::crash(Survival survival, Rng& rng) {
  CENOTE_CHECK(open_ == 0);
  if (survival == Survival::kNothingUnsynced || (survival == Survival::kAnyPart && rng.below(2) == 0)) files_ = durable_files_;
  for (const auto& [name, file] : files_) {
    for (const Change& change : std::exchange(file->pending, {})) {
      if (survival == Survival::kAll) take_effect(change, file->durable);
      if (survival == Survival::kAnyPart) take_part_effect(change, file->durable, rng);
    }
    file->current = file->durable;
  }
  durable_files_ = files_;
  fault_ = DiskFault::kNone;
  failed_ = false;
}

}  // namespace cenote
