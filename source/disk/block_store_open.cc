// How a store takes its folder: lock, identity, scan.
#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "disk/block_store.h"

namespace cenote::disk {
namespace {

constexpr uint32_t kFormat = 1;  // Of the folder: names and layout. Files carry their own.

std::string identity_text(const StoreOwner& owner) {
  return str_cat("cenote blocks\nformat ", kFormat, "\ncluster ", owner.cluster, "\nserver ", owner.server, "\n");
}

std::string lineage_text(const StoreLineage& lineage) {
  return str_cat("cenote lineage\nlineage ", lineage.lineage, "\nsequence ", lineage.sequence, "\n");
}

std::string value_of(const std::vector<std::string>& lines, std::string_view key) {
  for (const std::string& line : lines) {
    if (absl::StartsWith(line, str_cat(key, " "))) return line.substr(key.size() + 1);
  }
  return "";
}

bool is_fan_out(std::string_view name) {
  return name.size() == 2 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// What an operator can do about a folder that cannot be taken.
absl::Status with_remedy(const absl::Status& status, const std::string& folder, const StoreOwner& owner) {
  const std::string where = str_cat("data_dir ", folder, " of memory server ", owner.server);
  const auto say = [&](std::string_view remedy) { return absl::Status(status.code(), str_cat(where, ": ", to_std(status.message()), "; ", remedy)); };
  switch (status.code()) {
    case absl::StatusCode::kAlreadyExists: return say("one process at a time: end the other, or name a folder of its own");
    case absl::StatusCode::kPermissionDenied: return say("make it writable for this user (chown, remount read-write) or name another");
    case absl::StatusCode::kResourceExhausted: return say("free some space there or name another");
    case absl::StatusCode::kNotFound: return say("make its parent folder or name another");
    case absl::StatusCode::kFailedPrecondition: return annotate(status, where);
    default: return say("look at the device (dmesg), or name another folder");
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockStore>> BlockStore::open(Files& files, std::string folder, const StoreOwner& owner) {
  std::unique_ptr<BlockStore> store(new BlockStore(files, std::move(folder)));
  absl::Status status = store->take(owner);
  if (status.ok()) status = store->scan();
  if (!status.ok()) return with_remedy(status, store->folder_, owner);
  return store;
}

absl::Status BlockStore::take(const StoreOwner& owner) {
  CENOTE_RETURN_IF_ERROR(files_.make_folder(folder_));
  CENOTE_ASSIGN_OR_RETURN(lock_, files_.lock(folder_ + "/lock"));
  const absl::Status known = check_identity(owner);
  if (known.code() == absl::StatusCode::kNotFound) {
    CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> there, files_.list(folder_));
    for (const std::string& name : there) {
      if (name != "lock" && name != "identity.tmp") {
        return absl::FailedPreconditionError(str_cat("it holds ", name, " but no identity, so it is no store; name an empty folder"));
      }
    }
    CENOTE_RETURN_IF_ERROR(write_page("identity", identity_text(owner)));
  } else if (!known.ok()) {
    return known;
  }
  found_.lineage = read_lineage();
  for (const char* name : {"/blocks", "/quarantine"}) CENOTE_RETURN_IF_ERROR(files_.make_folder(folder_ + name));
  for (int i = 0; i < 256; ++i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const char name[] = {'/', kDigits[i / 16], kDigits[i % 16], 0};
    CENOTE_RETURN_IF_ERROR(files_.make_folder(folder_ + "/blocks" + name));
  }
  CENOTE_RETURN_IF_ERROR(files_.sync_folder(folder_ + "/blocks"));
  return files_.sync_folder(folder_);
}

absl::Status BlockStore::check_identity(const StoreOwner& owner) {
  CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> in, files_.open(folder_ + "/identity"));
  const PageBuffer page(kPageBytes);
  CENOTE_ASSIGN_OR_RETURN(const uint64_t got, in->read(0, page.bytes()));
  const std::string_view raw(reinterpret_cast<const char*>(page.bytes().data()), got);
  const std::vector<std::string> lines = absl::StrSplit(to_absl(raw), '\n');
  uint32_t format = 0;
  if (lines.front() != "cenote blocks" || !absl::SimpleAtoi(value_of(lines, "format"), &format)) {
    return absl::FailedPreconditionError("its identity file is not one; name an empty folder");
  }
  if (format > kFormat) {
    return absl::FailedPreconditionError(str_cat("it is of format ", format, ", written by a newer version; this one reads ", kFormat,
                                                 ": use that version or name another folder"));
  }
  const StoreOwner is{.cluster = value_of(lines, "cluster"), .server = value_of(lines, "server")};
  if (is.cluster != owner.cluster || is.server != owner.server) {
    return absl::FailedPreconditionError(str_cat("it belongs to ", is.server, " of cluster ", is.cluster, ", not to ", owner.server, " of ", owner.cluster,
                                                 "; name a folder of its own, or give the server its old name"));
  }
  return absl::OkStatus();
}

// What cannot be read counts as never told: then nothing is dropped that the catalogue does not know.
StoreLineage BlockStore::read_lineage() {
  const auto in = files_.open(folder_ + "/lineage");
  if (!in.ok()) return {};
  const PageBuffer page(kPageBytes);
  const absl::StatusOr<uint64_t> got = (*in)->read(0, page.bytes());
  if (!got.ok()) return {};
  const std::vector<std::string> lines = absl::StrSplit(to_absl(std::string_view(reinterpret_cast<const char*>(page.bytes().data()), *got)), '\n');
  StoreLineage lineage;
  const bool whole = lines.front() == "cenote lineage" && absl::SimpleAtoi(value_of(lines, "lineage"), &lineage.lineage) &&
                     absl::SimpleAtoi(value_of(lines, "sequence"), &lineage.sequence);
  return whole ? lineage : StoreLineage{};
}

absl::Status BlockStore::remember(const StoreLineage& lineage) { return write_page("lineage", lineage_text(lineage)); }

// Whole or not at all.
absl::Status BlockStore::write_page(const std::string& name, const std::string& text) {
  const std::string path = str_cat(folder_, "/", name);
  const PageBuffer page(kPageBytes);
  CENOTE_CHECK(text.size() < kPageBytes);
  std::fill(page.bytes().begin(), page.bytes().end(), std::byte{'\n'});
  std::memcpy(page.bytes().data(), text.data(), text.size());
  {
    CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> out, files_.create(path + ".tmp"));
    CENOTE_RETURN_IF_ERROR(out->write(0, page.bytes()));
    CENOTE_RETURN_IF_ERROR(out->sync());
  }
  CENOTE_RETURN_IF_ERROR(files_.rename(path + ".tmp", path));
  return files_.sync_folder(folder_);
}

absl::Status BlockStore::scan() {
  CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, files_.list(folder_ + "/blocks"));
  for (const std::string& name : folders) {
    if (is_fan_out(name)) {
      CENOTE_RETURN_IF_ERROR(scan_folder(name));
    } else {
      ++found_.foreign;
    }
  }
  return settle();
}

absl::Status BlockStore::scan_folder(const std::string& name) {
  const std::string folder = str_cat(folder_, "/blocks/", name);
  CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> files, files_.list(folder));
  for (const std::string& file : files) {
    const std::string path = str_cat(folder, "/", file);
    if (file.size() == 68 && absl::EndsWith(file, ".tmp")) {
      CENOTE_RETURN_IF_ERROR(files_.remove(path));
      changed_.insert(folder);
      ++found_.interrupted;
      continue;
    }
    const auto id = Digest::from_hex(file);
    if (!id.ok() || file.substr(0, 2) != name || id->hex() != file) {
      ++found_.foreign;
      continue;
    }
    auto block = footer_of(path, staging().first(kPageBytes));
    if (block.ok() && block->id != *id) block = absl::DataLossError(str_cat(path, " is of another block"));
    if (block.ok()) {
      found_.blocks.push_back(*block);
    } else if (block.status().code() == absl::StatusCode::kDataLoss) {
      CENOTE_RETURN_IF_ERROR(quarantine_file(path, file));
      changed_.insert(folder);
      ++found_.bad;
    } else {
      return block.status();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockRef> BlockStore::footer_of(const std::string& path, std::span<std::byte> page) const {
  CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<File> in, files_.open(path));
  CENOTE_ASSIGN_OR_RETURN(const uint64_t all, in->size_bytes());
  if (all < 2 * kPageBytes || all % kPageBytes != 0) return absl::DataLossError(str_cat(path, " has ", all, " bytes, no whole pages and a footer"));
  CENOTE_ASSIGN_OR_RETURN(const uint64_t got, in->read(all - kPageBytes, page));
  const auto block = read_footer(page.first(got), all);
  if (!block.ok()) return annotate(block.status(), path);
  return block;
}

}  // namespace cenote::disk
