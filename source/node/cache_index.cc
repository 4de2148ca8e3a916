#include "node/cache_index.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "policy/evict.h"

namespace cenote::node {
namespace {

uint64_t padded(const BlockRef& ref) { return round_up(ref.size_bytes, kBlockAlignBytes); }

std::vector<BlockRef> distinct(std::span<const BlockRef> refs) {
  std::set<Digest> seen;
  std::vector<BlockRef> kept;
  for (const BlockRef& ref : refs) {
    if (seen.insert(ref.id).second) kept.push_back(ref);
  }
  return kept;
}

}  // namespace

CacheIndex::CacheIndex(uint64_t size_bytes, uint32_t words, bool check_again)
    : check_again_(check_again), extents_(size_bytes, kBlockAlignBytes) {
  for (uint32_t word = words; word > 0; --word) free_words_.push_back(word - 1);
}

absl::Status CacheIndex::place(std::span<const BlockRef> refs, Instant now, Change& change, uint64_t* shortage_bytes) {
  *shortage_bytes = 0;
  const std::vector<BlockRef> blocks = distinct(refs);
  std::vector<BlockRef> missing;
  std::vector<BlockRef> pinned;
  std::vector<Slot*> rested;  // Pinned by nobody until now.
  uint64_t total = 0;
  uint64_t needed = 0;
  for (const BlockRef& ref : blocks) {
    CENOTE_CHECK(ref.size_bytes > 0 && ref.size_bytes <= kBlockBytesMax);
    total += padded(ref);
    const auto slot = slots_.find(ref.id);
    if (slot == slots_.end()) {
      missing.push_back(ref);
      needed += padded(ref);
      continue;
    }
    if (slot->second.pins++ == 0) {
      pinned_bytes_ += padded(ref);
      rested.push_back(&slot->second);
    }
    slot->second.last_use = now;
    pinned.push_back(ref);
  }
  if (!insert(missing, now, change)) {
    unpin(pinned, now);
    CENOTE_RETURN_IF_ERROR(policy::check_fits(total, size_bytes()));
    const uint64_t evictable = size_bytes() - pinned_bytes_;
    *shortage_bytes = std::max<uint64_t>(needed > evictable ? needed - evictable : 0, kBlockAlignBytes);
    return absl::ResourceExhaustedError(str_cat("the cache of ", format_bytes(size_bytes()), " has ", format_bytes(pinned_bytes_),
                                                " in use, another ", format_bytes(needed),
                                                " are needed; evict a model or raise agent.cache_capacity"));
  }
  for (Slot* slot : rested) {
    if (!check_again_) continue;
    slot->kept = slot->kept || std::exchange(slot->whole, false);
    change.emptied.push_back(slot->extent.word);
  }
  return absl::OkStatus();
}

bool CacheIndex::insert(std::span<const BlockRef> missing, Instant now, Change& change) {
  if (missing.empty()) return true;
  uint64_t needed = 0;
  for (const BlockRef& ref : missing) needed += padded(ref);
  const auto words = static_cast<uint32_t>(missing.size());
  const uint64_t free = extents_.free_bytes();
  if (!evict(needed > free ? needed - free : 0, words, change)) return false;
  // In one run if there is one, so that a mapping has long pages; else wherever each block fits, evicting on while holes are too short.
  if (auto run = extents_.take(needed)) {
    memory::Extent rest = *run;
    for (size_t i = 0; i < missing.size(); ++i) {
      const uint64_t size = padded(missing[i]);
      const memory::Extent extent = size < rest.size_bytes ? extents_.split(rest, size) : rest;
      rest = {rest.offset_bytes + size, rest.size_bytes - size};
      add_slot(missing[i], extent, now, change);
    }
    return true;
  }
  for (size_t i = 0; i < missing.size(); ++i) {
    std::optional<memory::Extent> extent = extents_.take(padded(missing[i]));
    while (!extent && evict(padded(missing[i]), 1, change)) extent = extents_.take(padded(missing[i]));
    if (extent) {
      add_slot(missing[i], *extent, now, change);
      continue;
    }
    for (size_t k = 0; k < i; ++k) {
      const auto slot = slots_.find(missing[k].id);
      pinned_bytes_ -= padded(missing[k]);
      slot->second.pins = 0;
      remove(slot, change);
    }
    return false;
  }
  return true;
}

void CacheIndex::add_slot(const BlockRef& ref, memory::Extent extent, Instant now, Change& change) {
  const uint32_t word = free_words_.back();
  free_words_.pop_back();
  slots_[ref.id] = {.ref = ref,
                    .extent = {.offset_bytes = extent.offset_bytes, .size_bytes = ref.size_bytes, .word = word},
                    .pins = 1,
                    .last_use = now};
  pinned_bytes_ += padded(ref);
  change.emptied.push_back(word);
}

// Frees at least `needed_bytes` more, and has at least `needed_words` words free. False: what is unpinned is not enough.
bool CacheIndex::evict(uint64_t needed_bytes, uint32_t needed_words, Change& change) {
  if (needed_bytes == 0 && free_words_.size() >= needed_words) return true;
  std::vector<policy::EvictionCandidate> candidates;
  std::vector<std::map<Digest, Slot>::iterator> slots;
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot) {
    if (slot->second.pins > 0) continue;
    candidates.push_back({.size_bytes = padded(slot->second.ref), .last_use = slot->second.last_use});
    slots.push_back(slot);
  }
  const auto by_bytes = policy::choose_victims(candidates, needed_bytes);
  if (!by_bytes) return false;
  size_t count = by_bytes->size();
  if (free_words_.size() + count < needed_words) {
    count = needed_words - free_words_.size();
    if (count > slots.size()) return false;
    for (auto& candidate : candidates) candidate.size_bytes = 1;  // Each has one word.
    const auto by_words = policy::choose_victims(candidates, count);
    for (const size_t victim : *by_words) remove(slots[victim], change);
    return true;
  }
  for (const size_t victim : *by_bytes) remove(slots[victim], change);
  return true;
}

void CacheIndex::remove(std::map<Digest, Slot>::iterator slot, Change& change) {
  CENOTE_CHECK(slot->second.pins == 0);
  extents_.give({slot->second.extent.offset_bytes, padded(slot->second.ref)});
  free_words_.push_back(slot->second.extent.word);
  std::erase(change.emptied, slot->second.extent.word);
  change.retired.push_back(slot->second.extent.word);
  slots_.erase(slot);
}

void CacheIndex::unpin(std::span<const BlockRef> refs, Instant now) {
  for (const BlockRef& ref : distinct(refs)) {
    const auto slot = slots_.find(ref.id);
    CENOTE_CHECK(slot != slots_.end() && slot->second.pins > 0);
    slot->second.last_use = now;
    if (--slot->second.pins == 0) pinned_bytes_ -= padded(ref);
  }
}

void CacheIndex::erase(std::span<const BlockRef> refs, Change& change) {
  for (const BlockRef& ref : distinct(refs)) {
    const auto slot = slots_.find(ref.id);
    if (slot != slots_.end() && slot->second.pins == 0) remove(slot, change);
  }
}

const CacheIndex::Slot* CacheIndex::find(const Digest& block) const {
  const auto slot = slots_.find(block);
  return slot == slots_.end() ? nullptr : &slot->second;
}

void CacheIndex::set_whole(const Digest& block) {
  const auto slot = slots_.find(block);
  if (slot == slots_.end()) return;
  slot->second.whole = true;
  slot->second.kept = false;
}

}  // namespace cenote::node
