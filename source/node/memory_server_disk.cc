// What is on disk and what is in the arena: reading back, making room, grants that wait for it.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "node/memory_server.h"
#include "node/memory_server_impl.h"
#include "policy/evict.h"

namespace cenote::node {

std::optional<uint32_t> MemoryServer::size_of(const Digest& id) const {
  if (const auto held = blocks_.find(id)) return held->size_bytes;
  const auto stored = stored_.find(id);
  return stored == stored_.end() ? std::nullopt : std::optional(stored->second);
}

void MemoryServer::note_came(const BlockRef& block) {
  added_[block.id] = block.size_bytes;
  dropped_.erase(block.id);
}

void MemoryServer::lost(const Digest& id) {
  added_.erase(id);
  dropped_.insert(id);
  for (Waiting& waiting : waiting_) waiting.news = waiting.news || waiting.wanted.contains(id);
}

// The file is gone, or about to be: what is being read of it counts for nothing.
void MemoryServer::forget_stored(const Digest& id) {
  const auto stored = stored_.find(id);
  if (stored == stored_.end()) return;
  stored_bytes_ -= stored_bytes(stored->second);
  stored_.erase(stored);
  if (const auto loading = loading_.find(id); loading != loading_.end()) loading->second.stale = true;
  if (scrubbing_ && scrubbing_->block.id == id) scrubbing_->stale = true;
}

// But not of a block that is being sealed or copied: its file is, or will be, that seal's or copy's, which removes it itself if it fails.
void MemoryServer::remove_files(std::vector<Digest> ids, bool aside, Actions& actions) {
  std::erase_if(ids, [this](const Digest& id) {
    const auto copy = copies_.find(id);
    return copy != copies_.end() && copy->second.checking;
  });
  for (const auto& [number, slab] : slabs_) {
    for (const CopyRange& copy : slab.copies) std::erase(ids, copy.block.id);
  }
  if (!ids.empty()) actions.emplace_back(RemoveBlocks{std::move(ids), aside});
}

// A run for a block, from which what nobody may read and the disk has too leaves the arena. A 64th of the arena leaves at a time, so that
// the blocks are gone through 64 times for an arena's worth of reading, not once a block.
std::optional<memory::Extent> MemoryServer::make_room(Instant now, uint32_t size_bytes) {
  if (const auto room = blocks_.reserve(size_bytes)) return room;
  if (!options_.disk) return std::nullopt;
  while (true) {
    std::vector<memory::BlockTable::Cold> cold = blocks_.cold(now);
    std::erase_if(cold, [this](const auto& block) { return !stored_.contains(block.id); });
    if (cold.empty()) return std::nullopt;
    std::vector<policy::ColdBlock> view;
    for (const auto& block : cold) view.push_back({.size_bytes = block.size_bytes, .granted_until = block.granted_until});
    const uint64_t needed = std::max<uint64_t>(round_up(size_bytes, kBlockAlignBytes), options_.block_area_bytes / 64);
    for (const size_t victim : policy::choose_cold(view, needed)) blocks_.drop(cold[victim].id, now);
    if (const auto room = blocks_.reserve(size_bytes)) return room;  // Else it came free in pieces: more must leave.
  }
}

bool MemoryServer::load(Instant now, const Digest& id, Actions& actions) {
  const auto stored = stored_.find(id);
  if (stored == stored_.end() || loading_.contains(id) || blocks_.find(id)) return true;
  const BlockRef block{.id = id, .size_bytes = stored->second};
  const uint64_t window = std::max(kBlockBytesMax, std::min(options_.block_area_bytes / 4, kLoadWindowMax));
  if (loading_bytes_ + block.size_bytes > window) return false;
  const auto room = make_room(now, block.size_bytes);
  if (!room) {
    room_at_ = blocks_.next_grant_end(now);
    return false;
  }
  loading_.emplace(id, Loading{.block = block, .extent = *room});
  loading_bytes_ += block.size_bytes;
  for (Waiting& waiting : waiting_) waiting.loading += waiting.wanted.contains(id) ? 1 : 0;
  actions.emplace_back(LoadBlock{block, room->offset_bytes});
  return true;
}

// Whoever asked for these got an answer without them and will ask again.
void MemoryServer::load_ahead(Instant now, std::span<const Digest> ids, Actions& actions) {
  for (const Digest& id : ids) {
    if (!load(now, id, actions)) return;
  }
}

void MemoryServer::arrived(const Digest& id, uint64_t size_bytes) {
  for (Waiting& waiting : waiting_) {
    if (waiting.wanted.contains(id)) waiting.ready_bytes += size_bytes;
  }
}

void MemoryServer::handle(Instant now, const BlockLoaded& done, Actions& actions) {
  const auto found = loading_.find(done.id);
  CENOTE_CHECK(found != loading_.end());
  const Loading loading = found->second;
  loading_.erase(found);
  loading_bytes_ -= loading.block.size_bytes;
  for (Waiting& waiting : waiting_) waiting.loading -= waiting.wanted.contains(done.id) ? 1 : 0;
  pump_due_ = true;
  if (done.status.ok() && !loading.stale) {
    read_back_bytes_ += loading.block.size_bytes;
    read_note_.clear();
    blocks_.hold(loading.block, loading.extent, now);
    blocks_.grant(done.id, now + with_drift(grant_duration()));  // Whoever it was read for must find it.
    arrived(done.id, loading.block.size_bytes);
    return;
  }
  blocks_.cancel(loading.extent);
  if (loading.stale) return;
  for (Waiting& waiting : waiting_) waiting.news = waiting.news || waiting.wanted.contains(done.id);
  if (done.status.code() != absl::StatusCode::kDataLoss && done.status.code() != absl::StatusCode::kNotFound) {
    read_note_ = str_cat("data_dir cannot be read: ", to_std(done.status.message()));
    return;  // It may be readable later.
  }
  ++corrupt_blocks_;
  forget_stored(done.id);
  remove_files({done.id}, true, actions);
  if (!blocks_.find(done.id)) lost(done.id);
}

// Begins what there is room for, then answers whoever has something to learn; who is answered makes way for the next in line.
void MemoryServer::pump(Instant now, Actions& actions) {
  if (now >= room_at_) pump_due_ = true;
  bool answered = true;
  while (answered && !waiting_.empty()) {
    if (std::exchange(pump_due_, false)) {
      room_at_ = Instant::infinite_future();
      for (Waiting& waiting : waiting_) {
        while (waiting.cursor < waiting.ids.size() && load(now, waiting.ids[waiting.cursor], actions)) ++waiting.cursor;
        if (waiting.cursor < waiting.ids.size()) break;  // Those who came later wait for theirs.
      }
    }
    answered = false;
    for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
      const bool ready = waiting->ready_bytes >= kAnswerBytes || (waiting->ready_bytes > 0 && waiting->loading == 0);
      if (!ready && !waiting->news && now < waiting->deadline) {
        ++waiting;
        continue;
      }
      answer(now, waiting->call, waiting->asked_at, waiting->ids, actions);
      waiting = waiting_.erase(waiting);
      answered = pump_due_ = true;
    }
  }
}

}  // namespace cenote::node
