// tests/unit/disk/blocks_of_bytes.h - blocks with the bytes they are named after, and the few calls that tests of a store repeat.
#pragma once

#include <algorithm>
#include <string>

#include "base/hash.h"
#include "base/rng.h"
#include "disk/block_store.h"

namespace cenote::disk {

// The same bytes for the same seed and size.
inline std::string some_bytes(uint64_t seed, size_t size) {
  Rng rng(seed * 1000003 + size);
  std::string bytes(size, 0);
  for (char& byte : bytes) byte = static_cast<char>(rng.next());
  return bytes;
}

inline BlockRef block_of(const std::string& bytes) { return {.id = sha256(as_bytes(bytes)), .size_bytes = static_cast<uint32_t>(bytes.size())}; }

inline absl::Status keep(BlockStore& store, const std::string& bytes) {
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(store.staging().data()));
  return store.keep(block_of(bytes));
}

inline absl::Status keep_settled(BlockStore& store, const std::string& bytes) {
  const absl::Status status = keep(store, bytes);
  return status.ok() ? store.settle() : status;
}

inline absl::Status read(const BlockStore& store, const BlockRef& block) {
  const PageBuffer buffer(payload_bytes(block.size_bytes));
  return store.read(block, buffer.bytes());
}

inline absl::Status check(const BlockStore& store, const BlockRef& block) {
  const PageBuffer buffer(kFileBytesMax);
  return store.check(block, buffer.bytes());
}

inline const StoreOwner kOwner{.cluster = "test", .server = "memory-0"};

}  // namespace cenote::disk
