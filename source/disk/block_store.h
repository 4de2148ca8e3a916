// disk/block_store.h - the blocks under one folder. What keep() and settle() said ok to is there after any crash, whole; what was refused
// or interrupted leaves nothing.
//
// Threads: keep(), settle(), remove(), quarantine() and remember() belong to one thread at a time, the writer; read() and check() any thread, beside the
// writer too. A block that is read while it is removed or kept anew is one of the two or kNotFound, never a mixture: files change names,
// not bytes. `files` must outlive the store.
//
// Cost: keep() one pass of XXH3 (26 GB/s a core), one write of size + 4 KiB, one fdatasync, one rename; settle() one fsync per folder that
// changed, at most 256. read() one read into place and one SHA-256 (1.8 GB/s a core): 2.3 ms of CPU for 4 MiB. open() lists 256 folders and
// reads 4 KiB of each file.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "disk/block_file.h"
#include "disk/files.h"
#include "message/record.h"

namespace cenote::disk {

struct StoreOwner {
  std::string cluster;
  std::string server;
};

// Which catalogue the blocks came under, as the controller said it last (message/member.h). 0: never told, or not readable.
struct StoreLineage {
  uint64_t lineage = 0;
  uint64_t sequence = 0;
  bool operator==(const StoreLineage&) const = default;
};

class BlockStore {
 public:
  // What open() found.
  struct Found {
    std::vector<BlockRef> blocks;      // Footers agree; payloads were not read.
    uint64_t interrupted = 0;          // Files of writes that were never finished: removed.
    uint64_t bad = 0;                  // Footers that do not agree: quarantined.
    uint64_t foreign = 0;              // Names that the store does not use: left alone.
    StoreLineage lineage;
  };

  // Takes the folder, making it if its parent is there, and removes what a crash left half done. Errors, each with the remedy:
  // kAlreadyExists (another process has it open), kFailedPrecondition (it is another server's or cluster's, of a newer format, or not empty
  // and no store), kPermissionDenied, kResourceExhausted (no room even for the identity), kDataLoss (the device fails), kNotFound (its
  // parent folder).
  static absl::StatusOr<std::unique_ptr<BlockStore>> open(Files& files, std::string folder, const StoreOwner& owner);
  const Found& found() const { return found_; }
  const std::string& folder() const { return folder_; }

  // Where the writer puts a block's bytes for keep(): kFileBytesMax, at a page's boundary.
  std::span<std::byte> staging() { return staging_.bytes(); }
  // The first block.size_bytes of staging() are the block's. Ok: the file has its name and its bytes are on the medium, but the name is only
  // after settle(). On an error no file is left of it (a former one is).
  absl::Status keep(const BlockRef& block);
  // What was kept and removed since the last time is so after a crash too.
  absl::Status settle();
  // Ok if it was not there.
  absl::Status remove(const Digest& id);
  // Moves the file aside for people to look at, removes it if kQuarantineMax lie there. Ok if it was not there.
  absl::Status quarantine(const Digest& id);

  // Replaces what open() will find; after any crash it is the old one or this one.
  absl::Status remember(const StoreLineage& lineage);

  // Reads the payload into `target` (payload_bytes(block.size_bytes), at a page's boundary) and checks it against the id. kDataLoss: the bytes
  // are wrong, too few, or the device failed; then `target` holds anything. kNotFound: no such file. Others: try again later.
  absl::Status read(const BlockRef& block, std::span<std::byte> target) const;
  // As read(), against the footer's sum instead of the id, with `buffer` of at least kFileBytesMax: for scrubbing.
  absl::Status check(const BlockRef& block, std::span<std::byte> buffer) const;

  static constexpr size_t kQuarantineMax = 8;

 private:
  BlockStore(Files& files, std::string folder) : files_(files), folder_(std::move(folder)), staging_(kFileBytesMax) {}
  absl::Status take(const StoreOwner& owner);
  absl::Status check_identity(const StoreOwner& owner);
  absl::Status write_page(const std::string& name, const std::string& text);
  StoreLineage read_lineage();
  absl::Status scan();
  absl::Status scan_folder(const std::string& name);
  absl::StatusOr<BlockRef> footer_of(const std::string& path, std::span<std::byte> page) const;
  absl::Status quarantine_file(const std::string& path, const std::string& name);
  std::string folder_of(const Digest& id) const;
  std::string path_of(const Digest& id) const;

  Files& files_;
  const std::string folder_;
  std::unique_ptr<FileLock> lock_;
  PageBuffer staging_;
  std::set<std::string> changed_;  // Folders to be synced.
  Found found_;
};

}  // namespace cenote::disk
