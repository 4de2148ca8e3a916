#include "memory/blocks.h"

#include "base/status.h"
#include "base/units.h"

namespace cenote::memory {

BlockTable::BlockTable(uint64_t size_bytes) : extents_(size_bytes, kBlockAlignBytes) {}

std::optional<Extent> BlockTable::reserve(uint32_t size_bytes) {
  CENOTE_CHECK(size_bytes > 0 && size_bytes <= kBlockBytesMax);
  return extents_.take(size_bytes);
}

void BlockTable::cancel(Extent reserved) { extents_.give(reserved); }

bool BlockTable::hold(const BlockRef& block, Extent reserved) {
  CENOTE_CHECK(block.size_bytes > 0 && block.size_bytes <= reserved.size_bytes);
  if (held_.contains(block.id) || revive(block.id)) {
    extents_.give(reserved);
    return false;
  }
  held_.emplace(block.id, Entry{.extent = reserved, .size_bytes = block.size_bytes});
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
  leaving_by_time_.erase({entry->second.granted_until, id});
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
  if (entry->second.granted_until <= now) {
    extents_.give(entry->second.extent);
  } else {
    CENOTE_CHECK(leaving_.emplace(id, entry->second).second);
    leaving_by_time_.emplace(entry->second.granted_until, id);
  }
  held_.erase(entry);
  return true;
}

void BlockTable::expire(Instant now) {
  while (!leaving_by_time_.empty() && leaving_by_time_.begin()->first <= now) {
    const auto entry = leaving_.find(leaving_by_time_.begin()->second);
    CENOTE_CHECK(entry != leaving_.end());
    extents_.give(entry->second.extent);
    leaving_.erase(entry);
    leaving_by_time_.erase(leaving_by_time_.begin());
  }
}

Instant BlockTable::next_expiry() const {
  return leaving_by_time_.empty() ? Instant::infinite_future() : leaving_by_time_.begin()->first;
}

std::vector<BlockRef> BlockTable::held() const {
  std::vector<BlockRef> blocks;
  blocks.reserve(held_.size());
  for (const auto& [id, entry] : held_) blocks.push_back({.id = id, .size_bytes = entry.size_bytes});
  return blocks;
}

}  // namespace cenote::memory
