// store/audit_log.h - who changed what, as lines of JSON in an append-only file, on the disk before the change is made and before it is
// answered. An entry is two lines with one id: phase "begin" with what is asked and by whom, phase "end" with how it ended; one without
// an end was under way when the process died. python/cenote/audit.py reads them.
//
//   {"action":"remove","id":"5d0c...","phase":"begin","time":"2026-03-01T09:30:00.123456Z","what":{"model":"gpt2"},
//    "who":{"peer":"ipv4:10.0.0.7:51234","role":"deployer","serial":"3f2a...","subject":"alice","tenant":"vision"}}
//   {... "phase":"end","outcome":"ok","message":"", ...}
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "message/caller.h"

namespace cenote {

inline constexpr size_t kAuditTextBytesMax = 1024;  // Of each text; longer ones are cut.

struct AuditEntry {
  std::string id;                           // The same in both lines.
  std::string action;                       // "deploy", "publish", ...
  std::map<std::string, std::string> what;
  Caller who;
};

// Lines without their end. Valid UTF-8 whatever the texts hold. Pure.
std::string audit_begin(const AuditEntry& entry, int64_t time_us);
std::string audit_end(const AuditEntry& entry, int64_t time_us, const absl::Status& outcome);

// "2026-03-01T09:30:00.123456Z" of Unix microseconds.
std::string utc_text(int64_t time_us);

// Thread-compatible. A file that would pass `file_bytes_max` becomes PATH.1, and the PATH.1 before it goes.
class AuditLog {
 public:
  // Makes the directory (0700) and the file (0600). Errors: of the file, named.
  static absl::StatusOr<std::unique_ptr<AuditLog>> open(const std::string& path, uint64_t file_bytes_max);
  virtual ~AuditLog() = default;
  // On the disk (fdatasync) when it returns Ok: some milliseconds. Otherwise nothing of it is in the file, and the error says what to do;
  // kResourceExhausted: the disk is full.
  virtual absl::Status append(std::string_view line) = 0;
};

}  // namespace cenote
