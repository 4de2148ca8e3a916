#include "disk/fake_files.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace cenote::disk {
namespace {

constexpr uint64_t kSectorBytes = 512;

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

void write_at(std::string& target, uint64_t offset, std::string_view bytes) {
  if (target.size() < offset + bytes.size()) target.resize(offset + bytes.size());
  std::memcpy(target.data() + offset, bytes.data(), bytes.size());
}

}  // namespace

class FakeFile final : public File {
 public:
  FakeFile(FakeFiles& files, std::shared_ptr<FakeFiles::Content> content, std::string path)
      : files_(files), content_(std::move(content)), path_(std::move(path)) {}

  absl::Status write(uint64_t offset, std::span<const std::byte> bytes) override {
    CENOTE_CHECK(offset % kPageBytes == 0 && bytes.size() % kPageBytes == 0 && reinterpret_cast<uintptr_t>(bytes.data()) % kPageBytes == 0);
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const absl::Status status = files_.begin("write", path_);
    if (status.code() == absl::StatusCode::kAborted) text = text.substr(0, std::min<uint64_t>(text.size(), files_.torn_bytes_));
    if (!status.ok() && status.code() != absl::StatusCode::kAborted) return status;
    const uint64_t room = files_.capacity_bytes - std::min(files_.capacity_bytes, files_.used_bytes());
    const bool full = text.size() > room;
    if (full) text = text.substr(0, room / kSectorBytes * kSectorBytes);
    write_at(content_->now, offset, text);
    content_->unsynced.push_back({offset, std::string(text)});
    if (full) return absl::ResourceExhaustedError(str_cat("write ", path_, ": No space left on device"));
    return status;
  }

  absl::StatusOr<uint64_t> read(uint64_t offset, std::span<std::byte> target) override {
    CENOTE_CHECK(offset % kPageBytes == 0 && target.size() % kPageBytes == 0);
    CENOTE_RETURN_IF_ERROR(files_.begin("read", path_));
    if (offset >= content_->now.size()) return uint64_t{0};
    const uint64_t size = std::min<uint64_t>(target.size(), content_->now.size() - offset);
    std::memcpy(target.data(), content_->now.data() + offset, size);
    return size;
  }

  absl::StatusOr<uint64_t> size_bytes() override {
    CENOTE_RETURN_IF_ERROR(files_.begin("stat", path_));
    return content_->now.size();
  }

  absl::Status sync() override {
    CENOTE_RETURN_IF_ERROR(files_.begin("fdatasync", path_));
    content_->synced = content_->now;
    content_->unsynced.clear();
    return absl::OkStatus();
  }

 private:
  FakeFiles& files_;
  std::shared_ptr<FakeFiles::Content> content_;
  std::string path_;
};

class FakeLock final : public FileLock {
 public:
  FakeLock(FakeFiles& files, std::string path) : files_(files), path_(std::move(path)) {}
  ~FakeLock() override { files_.locks_.erase(path_); }

 private:
  FakeFiles& files_;
  std::string path_;
};

absl::Status FakeFiles::begin(std::string_view call, const std::string& path) {
  if (crashed_) return absl::AbortedError("no power");
  if (calls_++ >= crash_at_) {
    crashed_ = true;
    return absl::AbortedError(str_cat("power failed at ", call, " ", path));
  }
  return refuse ? refuse(call, path) : absl::OkStatus();
}

FakeFiles::Folder* FakeFiles::folder_of(const std::string& path) {
  const auto found = folders_.find(parent_of(path));
  return found == folders_.end() ? nullptr : &found->second;
}

std::shared_ptr<FakeFiles::Content> FakeFiles::find(const std::string& path) {
  Folder* folder = folder_of(path);
  if (folder == nullptr) return nullptr;
  const auto found = folder->now.find(name_of(path));
  return found == folder->now.end() ? nullptr : found->second;
}

void FakeFiles::apply(const Change& change, Names& names) {
  if (!change.remove.empty()) names.erase(change.remove);
  if (!change.add.empty()) names[change.add] = change.content;
}

uint64_t FakeFiles::used_bytes() const {
  uint64_t total = 0;
  for (const auto& [path, folder] : folders_) {
    for (const auto& [name, content] : folder.now) total += content->now.size();
  }
  return total;
}

absl::StatusOr<std::unique_ptr<File>> FakeFiles::create(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("create", path));
  Folder* folder = folder_of(path);
  if (folder == nullptr) return absl::NotFoundError(path);
  const Change change{.add = name_of(path), .remove = "", .content = std::make_shared<Content>()};
  apply(change, folder->now);
  folder->unsynced.push_back(change);
  return std::make_unique<FakeFile>(*this, change.content, path);
}

absl::StatusOr<std::unique_ptr<File>> FakeFiles::open(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("open", path));
  const auto content = find(path);
  if (content == nullptr) return absl::NotFoundError(path);
  return std::make_unique<FakeFile>(*this, content, path);
}

absl::Status FakeFiles::rename(const std::string& from, const std::string& to) {
  CENOTE_RETURN_IF_ERROR(begin("rename", from));
  const auto content = find(from);
  if (content == nullptr || folder_of(to) == nullptr) return absl::NotFoundError(from);
  const bool same = parent_of(from) == parent_of(to);
  const Change arrives{.add = name_of(to), .remove = same ? name_of(from) : "", .content = content};
  apply(arrives, folder_of(to)->now);
  folder_of(to)->unsynced.push_back(arrives);
  if (same) return absl::OkStatus();
  const Change leaves{.add = "", .remove = name_of(from), .content = nullptr};
  apply(leaves, folder_of(from)->now);
  folder_of(from)->unsynced.push_back(leaves);
  return absl::OkStatus();
}

absl::Status FakeFiles::remove(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("remove", path));
  if (find(path) == nullptr) return absl::NotFoundError(path);
  const Change change{.add = "", .remove = name_of(path), .content = nullptr};
  apply(change, folder_of(path)->now);
  folder_of(path)->unsynced.push_back(change);
  return absl::OkStatus();
}

// Folders are simpler than files here: they are there at once and for good. The store makes all of them before it keeps anything.
absl::Status FakeFiles::make_folder(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("make folder", path));
  if (!folders_.contains(parent_of(path))) return absl::NotFoundError(path);
  folders_.try_emplace(path);
  return absl::OkStatus();
}

absl::Status FakeFiles::sync_folder(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("fsync", path));
  const auto folder = folders_.find(path);
  if (folder == folders_.end()) return absl::NotFoundError(path);
  folder->second.synced = folder->second.now;
  folder->second.unsynced.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FakeFiles::list(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("list", path));
  const auto folder = folders_.find(path);
  if (folder == folders_.end()) return absl::NotFoundError(path);
  std::set<std::string> names;
  for (const auto& [name, content] : folder->second.now) names.insert(name);
  for (auto other = folders_.upper_bound(path); other != folders_.end() && other->first.starts_with(path); ++other) {
    if (parent_of(other->first) == path) names.insert(name_of(other->first));
  }
  return std::vector<std::string>(names.begin(), names.end());
}

absl::StatusOr<std::unique_ptr<FileLock>> FakeFiles::lock(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("lock", path));
  if (folder_of(path) == nullptr) return absl::NotFoundError(path);
  if (!locks_.emplace(path, true).second) return absl::AlreadyExistsError(str_cat(path, " is held by another process"));
  return std::make_unique<FakeLock>(*this, path);
}

absl::StatusOr<uint64_t> FakeFiles::free_bytes(const std::string& path) {
  CENOTE_RETURN_IF_ERROR(begin("statvfs", path));
  return capacity_bytes - std::min(capacity_bytes, used_bytes());
}

void FakeFiles::recover(uint64_t seed) {
  Rng rng(seed);
  const auto survives = [&] { return seed == 1 || (seed != 0 && rng.below(2) == 0); };
  std::set<Content*> contents;
  for (auto& [path, folder] : folders_) {
    for (const Change& change : folder.unsynced) {
      if (survives()) apply(change, folder.synced);
    }
    folder.unsynced.clear();
    folder.now = folder.synced;
    for (const auto& [name, content] : folder.now) contents.insert(content.get());
  }
  for (Content* content : contents) {
    for (const Write& write : content->unsynced) {
      for (uint64_t at = 0; at < write.bytes.size(); at += kSectorBytes) {
        if (survives()) write_at(content->synced, write.offset + at, std::string_view(write.bytes).substr(at, kSectorBytes));
      }
    }
    content->unsynced.clear();
    content->now = content->synced;
  }
  locks_.clear();
  crashed_ = false;
  crash_at_ = UINT64_MAX;
}

std::vector<std::string> FakeFiles::names() const {
  std::vector<std::string> all;
  for (const auto& [path, folder] : folders_) {
    for (const auto& [name, content] : folder.now) all.push_back(path + "/" + name);
  }
  return all;
}

std::string& FakeFiles::bytes_of(const std::string& path) {
  const auto content = find(path);
  CENOTE_CHECK(content != nullptr);
  return content->now;
}

}  // namespace cenote::disk
