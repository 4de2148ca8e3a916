// memory/blocks.h - which blocks an arena holds, where, and until when readers may read them.
//
// A block is *held* (it may be granted), or *leaving* (dropped while a grant lives or a pin holds it: not granted any more, its bytes not
// yet reused). Bytes return to the extents only when no grant can cover them and no pin is on them. Pure bookkeeping: no memory, clock
// or threads.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "memory/extents.h"
#include "message/record.h"

namespace cenote::memory {

class BlockTable {
 public:
  // Offsets are multiples of kBlockAlignBytes, from 0 to `size_bytes`.
  explicit BlockTable(uint64_t size_bytes);

  // Room for a block that is about to be written. Empty: no run is long enough.
  std::optional<Extent> reserve(uint32_t size_bytes);
  // Gives back what reserve() gave and hold() did not take.
  void cancel(Extent reserved);
  // The bytes at `reserved` are the block's since `now`. False, and the room is given back: the block is there already.
  bool hold(const BlockRef& block, Extent reserved, Instant now);

  // Held (not leaving): its place and size.
  std::optional<BlockGrant> find(const Digest& id) const;
  // A leaving block's bytes are still right: it is held again. False: it is not leaving.
  bool revive(const Digest& id);
  // Extends the block's grants to `until`. The block must be held.
  void grant(const Digest& id, Instant until);
  // The block is no longer granted; its bytes are reused after its last grant. False: it was not held.
  bool drop(const Digest& id, Instant now);
  // As drop(), of a held block whose bytes are wrong: they will not be revived, the id may be held anew at once. Not of a pinned one.
  void discard(const Digest& id, Instant now);
  // While the server itself reads a held block's bytes: they stay. One pin at most.
  void pin(const Digest& id);
  void unpin(const Digest& id);
  // Frees the bytes of leaving blocks whose grants ended by `now`.
  void expire(Instant now);

  // Held, and neither granted nor pinned: what could leave now. In order of id.
  struct Cold {
    Digest id;
    uint64_t size_bytes = 0;   // As it takes room.
    Instant granted_until;     // Or when it came, if it was never granted.
  };
  std::vector<Cold> cold(Instant now) const;
  // When the next grant of a held block ends; infinite_future() if none lives. O(blocks).
  Instant next_grant_end(Instant now) const;

  // When expire() next has something to do; infinite_future() if nothing leaves.
  Instant next_expiry() const;
  std::optional<Digest> held_after(const Digest& id) const;               // The next one in order of id; empty if there is none.
  std::vector<BlockRef> held() const;                                     // Ordered by id.
  uint64_t used_bytes() const { return extents_.taken_bytes(); }          // Held, leaving and reserved, with padding.
  const Extents& extents() const { return extents_; }
  size_t held_count() const { return held_.size(); }
  size_t leaving_count() const { return leaving_.size() + discarded_.size(); }

 private:
  struct Entry {
    Extent extent;
    uint32_t size_bytes = 0;
    Instant granted_until;
    bool pinned = false;
    // Until when its bytes must stay.
    Instant stays_until() const { return pinned ? Instant::infinite_future() : granted_until; }
  };
  void leave(const Digest& id, const Entry& entry);

  Extents extents_;
  std::map<Digest, Entry> held_;
  std::map<Digest, Entry> leaving_;                       // At most one each: hold() never doubles a leaving block's bytes,
  std::set<std::pair<Instant, Digest>> leaving_by_time_;  // since the owner revives first.
  std::multimap<Instant, Extent> discarded_;              // -> to be freed then.
};

}  // namespace cenote::memory
