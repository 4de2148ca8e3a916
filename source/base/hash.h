// base/hash.h - the two hashes: XXH3-64 for chunks on arrival, SHA-256 for identity. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/ids.h"

namespace cenote {

uint64_t xxh3_64(std::span<const std::byte> bytes);

Digest sha256(std::span<const std::byte> bytes);

// Streaming SHA-256. Single owner.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  Digest finish();  // Once; update() may not follow.

 private:
  void* context_;
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace cenote
