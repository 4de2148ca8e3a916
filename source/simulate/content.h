// simulate/content.h - memory as the simulator keeps it: which chunk of which block lies where, and whether its bytes are right. An arena,
// a slab area and a host's cache are each one Content. Pure bookkeeping.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/units.h"
#include "message/record.h"

namespace cenote::simulate {

// What fills one chunk's room. An empty block: bytes that nobody knows.
struct Chunk {
  Digest block;
  uint32_t index = 0;
  uint32_t size_bytes = 0;
  bool corrupt = false;
};

inline uint32_t chunk_size(uint32_t block_bytes, uint32_t index) {
  const uint64_t begin = index * kChunkBytes;
  return static_cast<uint32_t>(block_bytes - begin < kChunkBytes ? block_bytes - begin : kChunkBytes);
}
inline uint32_t chunk_count(uint32_t block_bytes) { return static_cast<uint32_t>((block_bytes + kChunkBytes - 1) / kChunkBytes); }

// The sum that a manifest lists for a chunk: differs for each chunk of each block.
inline uint64_t chunk_sum(const Digest& block, uint32_t index) {
  uint64_t sum = 14695981039346656037ull + index;
  for (const uint8_t byte : block.bytes) sum = (sum ^ byte) * 1099511628211ull;
  return sum;
}

class Content {
 public:
  // What lay there, even in part, is gone.
  void write(uint64_t offset, const Chunk& chunk) {
    erase(offset, chunk.size_bytes);
    chunks_[offset] = chunk;
  }
  void write_block(uint64_t offset, const BlockRef& block) {
    for (uint32_t i = 0; i < chunk_count(block.size_bytes); ++i) {
      write(offset + i * kChunkBytes, {.block = block.id, .index = i, .size_bytes = chunk_size(block.size_bytes, i)});
    }
  }
  void erase(uint64_t offset, uint64_t size_bytes) {
    auto at = chunks_.lower_bound(offset);
    if (at != chunks_.begin() && std::prev(at)->first + std::prev(at)->second.size_bytes > offset) --at;
    while (at != chunks_.end() && at->first < offset + size_bytes) at = chunks_.erase(at);
  }
  // The chunks of [offset, offset + size): what does not begin and end as chunks do here is of no known block.
  std::vector<Chunk> read(uint64_t offset, uint64_t size_bytes) const {
    std::vector<Chunk> found;
    for (const uint64_t end = offset + size_bytes; offset < end;) {
      const uint32_t room = static_cast<uint32_t>(std::min<uint64_t>(kChunkBytes, end - offset));
      const auto at = chunks_.find(offset);
      const bool whole = at != chunks_.end() && at->second.size_bytes == room;
      found.push_back(whole ? at->second : Chunk{.size_bytes = room});
      offset += room;
    }
    return found;
  }
  // Exactly this block's bytes lie there.
  bool holds(uint64_t offset, const BlockRef& block) const {
    const std::vector<Chunk> found = read(offset, block.size_bytes);
    for (uint32_t i = 0; i < found.size(); ++i) {
      if (found[i].block != block.id || found[i].index != i || found[i].corrupt) return false;
    }
    return true;
  }
  // Bytes of the `n`-th chunk (modulo how many there are) change. Nothing happens if there is none.
  void corrupt(uint64_t n) {
    if (chunks_.empty()) return;
    std::next(chunks_.begin(), static_cast<ptrdiff_t>(n % chunks_.size()))->second.corrupt = true;
  }
  void repair() {
    for (auto& [offset, chunk] : chunks_) chunk.corrupt = false;
  }

 private:
  std::map<uint64_t, Chunk> chunks_;
};

}  // namespace cenote::simulate
