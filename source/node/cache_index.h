// node/cache_index.h - which block lies where in the host's cache, who needs it, and what leaves when room is needed. Pure bookkeeping:
// the bytes are cache/'s. Thread-compatible.
//
// A block is pinned by each revision that is in use and consists of it. Pinned blocks never leave. A block's slot is its extent and
// its arrival word; both go to another block only after the first one is gone from the index.
//
// What nobody pins lies in memory that may change while nobody looks. With `check_again`, pinning it anew takes its arrival word back: it
// is whole once more when somebody has checked it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "memory/extents.h"
#include "message/link.h"
#include "message/record.h"

namespace cenote::node {

class CacheIndex {
 public:
  struct Slot {
    BlockRef ref;
    CacheExtent extent;
    uint32_t pins = 0;
    bool whole = false;  // All chunks have arrived, and match.
    bool kept = false;   // They had: to be checked before they count as whole.
    Instant last_use;
  };
  // What changed: words that belong to another block now.
  struct Change {
    std::vector<uint32_t> emptied;  // Reset: a new block comes, or a kept one is to be checked.
    std::vector<uint32_t> retired;  // Its block left.
  };

  CacheIndex(uint64_t size_bytes, uint32_t words, bool check_again);

  // Pins each distinct block of `refs` once, making room for those that are not there by evicting the least recently used unpinned
  // ones. All or nothing, except that blocks evicted on the way stay evicted. kResourceExhausted: it cannot fit; `*shortage_bytes` is 0 if
  // it never can, else about what must be unpinned first.
  absl::Status place(std::span<const BlockRef> refs, Instant now, Change& change, uint64_t* shortage_bytes);
  // Takes back what place() pinned.
  void unpin(std::span<const BlockRef> refs, Instant now);
  // Drops those of `refs` that nothing pins.
  void erase(std::span<const BlockRef> refs, Change& change);

  const Slot* find(const Digest& block) const;
  void set_whole(const Digest& block);
  uint64_t size_bytes() const { return extents_.size_bytes(); }
  uint64_t used_bytes() const { return extents_.taken_bytes(); }
  uint64_t pinned_bytes() const { return pinned_bytes_; }
  const std::map<Digest, Slot>& slots() const { return slots_; }

 private:
  bool evict(uint64_t needed_bytes, uint32_t needed_words, Change& change);
  void remove(std::map<Digest, Slot>::iterator slot, Change& change);
  bool insert(std::span<const BlockRef> missing, Instant now, Change& change);
  void add_slot(const BlockRef& ref, memory::Extent extent, Instant now, Change& change);

  const bool check_again_;
  memory::Extents extents_;
  std::vector<uint32_t> free_words_;  // Taken from the back.
  std::map<Digest, Slot> slots_;
  uint64_t pinned_bytes_ = 0;
};

}  // namespace cenote::node
