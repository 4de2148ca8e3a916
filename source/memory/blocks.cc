#include "memory/blocks.h"

#include <algorithm>

#include "base/status.h"
#include "base/units.h"

namespace cenote::memory {

BlockTable::BlockTable(uint64_t size_bytes) : extents_(size_bytes, kBlockAlignBytes) {}

std::optional<Extent> BlockTable::reserve(uint32_t size_bytes) {
  CENOTE_CHECK(size_bytes > 0 && size_bytes <= kBlockBytesMax);
  return extents_.take(size_bytes);
}

void BlockTable::cancel(Extent reserved) { extents_.give(reserved); }

bool BlockTable::hold(const BlockRef& block, Extent reserved, Instant now) {
  CENOTE_CHECK(block.size_bytes > 0 && block.size_bytes <= reserved.size_bytes);
  if (held_.contains(block.id) || revive(block.id)) {
    extents_.give(reserved);
    return false;
  }
  held_.emplace(block.id, Entry{.extent = reserved, .size_bytes = block.size_bytes, .granted_until = now});
  return true;
}

std::optional<BlockGrant> BlockTable::find(const Digest& id) const {
  const auto entry = held_.find(id);
  if (entry == held_.end()) return std::nullopt;
  return BlockGrant{.id = id, .offset_bytes = entry->second.extent.offset_bytes, .size_bytes = entry->second.size_bytes};
}

bool BlockTable::revive(const Digest& id) {
  const auto entry = leaving_.find(id);
  if (entry == leaving_.end()) return false;
  CENOTE_CHECK(!held_.contains(id));
  leaving_by_time_.erase({entry->second.stays_until(), id});
  held_.emplace(id, entry->second);
  leaving_.erase(entry);
  return true;
}

void BlockTable::grant(const Digest& id, Instant until) {
  const auto entry = held_.find(id);
  CENOTE_CHECK(entry != held_.end());
  entry->second.granted_until = std::max(entry->second.granted_until, until);
}

bool BlockTable::drop(const Digest& id, Instant now) {
  const auto entry = held_.find(id);
  if (entry == held_.end()) return false;
  const Entry dropped = entry->second;
  held_.erase(entry);
  if (dropped.stays_until() <= now) {
    extents_.give(dropped.extent);
  } else {
    leave(id, dropped);
  }
  return true;
}

void BlockTable::leave(const Digest& id, const Entry& entry) {
  CENOTE_CHECK(leaving_.emplace(id, entry).second);
  leaving_by_time_.emplace(entry.stays_until(), id);
}

void BlockTable::discard(const Digest& id, Instant now) {
  const auto entry = held_.find(id);
  CENOTE_CHECK(entry != held_.end() && !entry->second.pinned);
  if (entry->second.granted_until <= now) {
    extents_.give(entry->second.extent);
  } else {
    discarded_.emplace(entry->second.granted_until, entry->second.extent);
  }
  held_.erase(entry);
}

void BlockTable::pin(const Digest& id) {
  const auto entry = held_.find(id);
  CENOTE_CHECK(entry != held_.end() && !entry->second.pinned);
  entry->second.pinned = true;
}

void BlockTable::unpin(const Digest& id) {
  if (const auto held = held_.find(id); held != held_.end()) {
    CENOTE_CHECK(held->second.pinned);
    held->second.pinned = false;
    return;
  }
  const auto left = leaving_.find(id);
  CENOTE_CHECK(left != leaving_.end() && left->second.pinned);
  Entry entry = left->second;
  leaving_by_time_.erase({entry.stays_until(), id});
  leaving_.erase(left);
  entry.pinned = false;
  leave(id, entry);  // Freed by the next expire().
}

void BlockTable::expire(Instant now) {
  while (!leaving_by_time_.empty() && leaving_by_time_.begin()->first <= now) {
    const auto entry = leaving_.find(leaving_by_time_.begin()->second);
    CENOTE_CHECK(entry != leaving_.end());
    extents_.give(entry->second.extent);
    leaving_.erase(entry);
    leaving_by_time_.erase(leaving_by_time_.begin());
  }
  while (!discarded_.empty() && discarded_.begin()->first <= now) {
    extents_.give(discarded_.begin()->second);
    discarded_.erase(discarded_.begin());
  }
}

Instant BlockTable::next_expiry() const {
  const Instant left = leaving_by_time_.empty() ? Instant::infinite_future() : leaving_by_time_.begin()->first;
  return discarded_.empty() ? left : std::min(left, discarded_.begin()->first);
}

std::vector<BlockTable::Cold> BlockTable::cold(Instant now) const {
  std::vector<Cold> blocks;
  for (const auto& [id, entry] : held_) {
    if (entry.stays_until() <= now) blocks.push_back({.id = id, .size_bytes = entry.extent.size_bytes, .granted_until = entry.granted_until});
  }
  return blocks;
}

Instant BlockTable::next_grant_end(Instant now) const {
  Instant next = Instant::infinite_future();
  for (const auto& [id, entry] : held_) {
    if (entry.granted_until > now) next = std::min(next, entry.granted_until);
  }
  return next;
}

std::optional<Digest> BlockTable::held_after(const Digest& id) const {
  const auto next = held_.upper_bound(id);
  return next == held_.end() ? std::nullopt : std::optional(next->first);
}

std::vector<BlockRef> BlockTable::held() const {
  std::vector<BlockRef> blocks;
  blocks.reserve(held_.size());
  for (const auto& [id, entry] : held_) blocks.push_back({.id = id, .size_bytes = entry.size_bytes});
  return blocks;
}

}  // namespace cenote::memory
