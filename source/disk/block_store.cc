#include "disk/block_store.h"

#include <algorithm>

#include "base/hash.h"
#include "base/status.h"

namespace cenote::disk {
namespace {

absl::Status ok_if_absent(const absl::Status& status) { return status.code() == absl::StatusCode::kNotFound ? absl::OkStatus() : status; }

}  // namespace

std::string BlockStore::folder_of(const Digest& id) const { return str_cat(folder_, "/blocks/", id.hex().substr(0, 2)); }
std::string BlockStore::path_of(const Digest& id) const { return str_cat(folder_of(id), "/", id.hex()); }

absl::Status BlockStore::keep(const BlockRef& block) {
  const std::string path = path_of(block.id), temporary = path + ".tmp";
  const std::span<std::byte> file = staging().first(file_bytes(block.size_bytes));
  finish_file(block, file);
  const auto write = [&]() -> absl::Status {
    CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> out, files_.create(temporary));
    CENOTE_RETURN_IF_ERROR(out->write(0, file));
    return out->sync();
  };
  absl::Status status = write();
  if (status.ok()) status = files_.rename(temporary, path);
  if (!status.ok()) {
    (void)files_.remove(temporary);  // If it stays, the next start removes it.
    return status;
  }
  changed_.insert(folder_of(block.id));
  return absl::OkStatus();
}

absl::Status BlockStore::settle() {
  while (!changed_.empty()) {
    CENOTE_RETURN_IF_ERROR(files_.sync_folder(*changed_.begin()));
    changed_.erase(changed_.begin());
  }
  return absl::OkStatus();
}

absl::Status BlockStore::remove(const Digest& id) {
  CENOTE_RETURN_IF_ERROR(ok_if_absent(files_.remove(path_of(id))));
  changed_.insert(folder_of(id));
  return absl::OkStatus();
}

absl::Status BlockStore::quarantine(const Digest& id) {
  changed_.insert(folder_of(id));
  return quarantine_file(path_of(id), id.hex());
}

absl::Status BlockStore::quarantine_file(const std::string& path, const std::string& name) {
  const std::string aside = folder_ + "/quarantine";
  CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> there, files_.list(aside));
  const bool room = there.size() < kQuarantineMax || std::binary_search(there.begin(), there.end(), name);
  const absl::Status moved = room ? files_.rename(path, str_cat(aside, "/", name)) : files_.remove(path);
  if (moved.ok() || moved.code() == absl::StatusCode::kNotFound) return absl::OkStatus();
  return ok_if_absent(files_.remove(path));  // Whatever it is, it must not be found again.
}

absl::Status BlockStore::read(const BlockRef& block, std::span<std::byte> target) const {
  CENOTE_CHECK(target.size() == payload_bytes(block.size_bytes));
  const std::string path = path_of(block.id);
  CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> in, files_.open(path));
  CENOTE_ASSIGN_OR_RETURN(const uint64_t got, in->read(0, target));
  if (got != target.size()) return absl::DataLossError(str_cat(path, " ends after ", got, " of ", target.size(), " bytes"));
  if (const Digest is = sha256(target.first(block.size_bytes)); is != block.id) {
    return absl::DataLossError(str_cat(path, ": its ", block.size_bytes, " bytes hash to ", is.short_hex()));
  }
  return absl::OkStatus();
}

absl::Status BlockStore::check(const BlockRef& block, std::span<std::byte> buffer) const {
  const std::string path = path_of(block.id);
  const uint64_t payload = payload_bytes(block.size_bytes), all = payload + kFooterBytes;
  CENOTE_CHECK(buffer.size() >= all);
  CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> in, files_.open(path));
  CENOTE_ASSIGN_OR_RETURN(const uint64_t got, in->read(0, buffer.first(all)));
  if (got != all) return absl::DataLossError(str_cat(path, " ends after ", got, " of ", all, " bytes"));
  const auto footer = buffer.subspan(payload, kFooterBytes);
  const auto said = read_footer(footer, all);
  if (!said.ok()) return annotate(said.status(), path);
  if (*said != block) return absl::DataLossError(str_cat(path, " is of another block"));
  if (!sum_matches(footer, buffer.first(payload))) return absl::DataLossError(str_cat(path, ": its bytes do not match the footer's sum"));
  return absl::OkStatus();
}

}  // namespace cenote::disk
