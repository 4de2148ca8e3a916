// message/record.h - what the catalogue knows of a revision, and who holds its bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace cenote {

// One content-addressed run of bytes, 1 to kBlockBytesMax long.
struct BlockRef {
  Digest id;
  uint32_t size_bytes = 0;
  auto operator<=>(const BlockRef&) const = default;
};

// A sealed revision. Its manifest is an object of the pool: the concatenation of manifest_blocks hashes to `digest`.
struct RevisionRecord {
  Digest digest;
  std::string name;                        // The name it was deployed under; tags are apart.
  uint64_t manifest_bytes = 0;
  std::vector<BlockRef> manifest_blocks;
  std::vector<BlockRef> blocks;            // Weights, in order of first use; a block may repeat.
  std::vector<BlockRef> file_blocks;       // Tokenizer, labels and such; see Manifest::files.
  uint64_t weight_bytes = 0;               // Sum over `blocks`, repeats counted.
  int64_t created_us = 0;                  // Wall clock, for people.
  std::string device_filter;               // Settings: which devices may serve it; empty = all.
  BlockRef label;                          // catalog/label.h: the name beside the manifest, for when the catalogue is lost. Empty id: none.
};

// A memory server as others reach it.
struct MemoryServerInfo {
  std::string name;
  std::string control_address;   // host:port of its gRPC service.
  std::string fabric_provider;   // "tcp;ofi_rxm", ...
  std::string fabric_address;    // Opaque bytes from Transport::address().
  Incarnation incarnation = 0;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  auto operator<=>(const MemoryServerInfo&) const = default;
};

// Where one block may be read while the grant lasts: `offset` in the region `key` (base added by the transport).
struct BlockGrant {
  Digest id;
  uint64_t offset_bytes = 0;
  uint32_t size_bytes = 0;
};
struct Grant {
  Incarnation incarnation = 0;   // The server's; another one at connect makes the grant void.
  uint64_t region_key = 0;
  uint64_t region_base = 0;
  Duration duration;             // Counted by the holder from the moment it sent its request.
  std::vector<BlockGrant> blocks;
  std::vector<Digest> missing;   // Asked for, not held.
};

// A writer's private memory at a server, registered remote-writable until sealed, abandoned or expired.
struct SlabInfo {
  uint64_t slab = 0;
  Incarnation incarnation = 0;
  uint64_t region_key = 0;
  uint64_t region_base = 0;
  uint64_t size_bytes = 0;
  Duration duration;
  std::string fabric_provider;
  std::string fabric_address;
};

// One run of a slab that must hash to `id`.
struct SealRange {
  uint64_t offset_bytes = 0;
  BlockRef block;
};

}  // namespace cenote
