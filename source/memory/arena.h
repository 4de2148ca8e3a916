// memory/arena.h - one anonymous mapping for a memory server's lifetime: 2 MiB pages and locked where the system allows it.
//
// Pages are taken as they are first written, so an idle server is small and one that is full is at most as large as its arena.
// Owns the mapping; whatever is registered over it must be gone first. Any thread may read or write the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace cenote::memory {

enum class HugePages : uint8_t { kAuto, kOn, kOff };

class Arena {
 public:
  // `size_bytes` is rounded up to 2 MiB. Errors: kResourceExhausted (the system has not that much; says what it has),
  // kFailedPrecondition (kOn, and there are not enough 2 MiB pages; says how many and how to get them).
  static absl::StatusOr<std::unique_ptr<Arena>> map(uint64_t size_bytes, HugePages huge_pages);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  bool huge() const { return huge_; }
  bool locked() const { return locked_; }
  // What the system refused, for people: "huge pages: ...", "memlock: ...".
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Arena() = default;
  std::span<std::byte> bytes_;
  bool huge_ = false;
  bool locked_ = false;
  std::vector<std::string> notes_;
};

}  // namespace cenote::memory
