// store/backup.h - a catalogue as one file that can be kept elsewhere. Pure but for restore_backup() and close_catalogue(), which block
// on the disk.
//
// Format (version 1, little-endian; golden file tests/data/backup_v1.bin):
//   8 bytes "CENOTEB1", u32 version, u32 length and cluster's name, i64 created_us, u64 sequence of the last event in it,
//   32 bytes fingerprint (Catalogue::fingerprint), u64 n, n x {u32 length, event (catalog/events.h)}, 32 bytes SHA-256 of all before
// The events are a snapshot: what they make is the catalogue as it was after `sequence`, histories, answers and evictions included.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/ids.h"

namespace cenote {

inline constexpr uint64_t kBackupBytesMax = 4ull << 30;

struct BackupInfo {
  std::string cluster;
  int64_t created_us = 0;  // Wall clock, for people.
  uint64_t sequence = 0;
  Digest fingerprint;
  uint64_t events = 0;
  uint64_t revisions = 0;
};
struct Backup {
  BackupInfo info;
  std::string bytes;
};

// `events`: encoded, all that a store has up to `sequence`. kDataLoss: one does not decode or fit.
absl::StatusOr<Backup> make_backup(const std::string& cluster, int64_t created_us, uint64_t sequence, std::span<const std::string> events);

// kInvalidArgument: not a backup. kDataLoss: damaged or truncated. kFailedPrecondition: of a newer Cenote.
absl::StatusOr<BackupInfo> check_backup(std::string_view bytes);

// Makes the catalogue's file at `path`, which must not exist; durable when it returns. It has the given lineage and holds drops: memory
// servers may have what came after the backup. On an error the file may be there, unfinished. kAlreadyExists, and the store's errors.
absl::Status restore_backup(std::string_view bytes, const std::string& path, uint64_t lineage);

// Folds a closed catalogue's log into its file, so that the file alone is all of it. kAlreadyExists: a controller has it open.
absl::Status close_catalogue(const std::string& path);

}  // namespace cenote
