// The scrubber: each byte held is checked once in scrub_interval, one block at a time, spread evenly.
//
// Cost: the disk's copy is read and summed (26 GB/s a core), the arena's hashed (1.8 GB/s): 64 GiB of each in a day are 0.8 MB/s of disk
// and 0.05 % of a core.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "node/memory_server.h"

namespace cenote::node {
namespace {

constexpr Duration kGapMin = Duration::from_ms(1);

bool bad(const absl::Status& status) { return status.code() == absl::StatusCode::kDataLoss || status.code() == absl::StatusCode::kNotFound; }

}  // namespace

// After the cursor, in order of id, then from the beginning.
std::optional<Digest> MemoryServer::next_to_scrub() const {
  const auto stored = stored_.upper_bound(scrub_cursor_);
  const auto held = blocks_.held_after(scrub_cursor_);
  if (stored != stored_.end()) return held && *held < stored->first ? *held : stored->first;
  if (held) return held;
  const auto first = blocks_.held_after({});  // No block's id is all zeros.
  if (stored_.empty()) return first;
  return first ? std::min(*first, stored_.begin()->first) : stored_.begin()->first;
}

// The controller's word: somebody read wrong bytes of them here. They are looked at one after the other, at once.
void MemoryServer::handle(Instant, const ChecksWanted& wanted, Actions&) { to_check_ = {wanted.ids.begin(), wanted.ids.end()}; }

void MemoryServer::scrub(Instant now, Actions& actions) {
  if (scrubbing_ || draining_) return;
  for (auto id = to_check_.begin(); id != to_check_.end();) {
    if (!size_of(*id)) {
      checked_.push_back(*id);  // It is gone: as good as looked at.
      id = to_check_.erase(id);
    } else if (begin_scrub(*id, actions)) {
      return;
    } else {
      ++id;
    }
  }
  if (options_.scrub_interval.ns <= 0) return;
  const auto id = next_to_scrub();
  if (!id) {
    scrub_at_ = Instant::infinite_future();
    return;
  }
  const uint32_t size = *size_of(*id);
  const bool disk = stored_.contains(*id);
  const auto held = blocks_.find(*id);
  const uint64_t part = (disk ? stored_bytes(size) : 0) + (held ? round_up(size, kBlockAlignBytes) : 0);
  const double share = std::min(1.0, static_cast<double>(part) / static_cast<double>(blocks_.used_bytes() + stored_bytes_));
  const Duration gap = std::max(kGapMin, Duration{static_cast<int64_t>(static_cast<double>(options_.scrub_interval.ns) * share)});
  if (scrub_at_ == Instant::infinite_future() || scrub_at_ > now + gap) scrub_at_ = now + gap;  // The latter: more is held than before.
  if (now < scrub_at_) return;
  scrub_at_ = Instant::infinite_future();  // Set again when this one is done.
  scrub_cursor_ = *id;
  begin_scrub(*id, actions);
}

bool MemoryServer::begin_scrub(const Digest& id, Actions& actions) {
  if (storing_.contains(id)) return false;
  const uint32_t size = *size_of(id);
  const bool disk = stored_.contains(id);
  const auto held = blocks_.find(id);
  if (held) blocks_.pin(id);
  scrubbing_ = Scrubbing{.block = {.id = id, .size_bytes = size}, .pinned = held.has_value()};
  actions.emplace_back(ScrubBlock{.block = scrubbing_->block,
                                  .disk = disk,
                                  .arena_offset_bytes = held ? std::optional(held->offset_bytes) : std::nullopt});
  scrubbed_bytes_ += uint64_t{size} * ((disk ? 1 : 0) + (held ? 1 : 0));
  return true;
}

void MemoryServer::handle(Instant now, const BlockScrubbed& done, Actions& actions) {
  CENOTE_CHECK(scrubbing_.has_value());
  const Scrubbing scrubbed = *std::exchange(scrubbing_, std::nullopt);
  const Digest& id = scrubbed.block.id;
  if (to_check_.erase(id) > 0) checked_.push_back(id);
  const bool disk_bad = bad(done.disk) && !scrubbed.stale;
  if (scrubbed.pinned) blocks_.unpin(id);
  blocks_.expire(now);
  const auto held = scrubbed.pinned ? blocks_.find(id) : std::nullopt;
  const bool arena_bad = held && bad(done.arena);
  corrupt_blocks_ += (disk_bad ? 1 : 0) + (arena_bad ? 1 : 0);
  if (arena_bad) blocks_.discard(id, now);
  if (disk_bad) {
    forget_stored(id);
    remove_files({id}, true, actions);
  }
  if (options_.disk && held && !arena_bad && !stored_.contains(id)) {  // The copy in the arena was just hashed: it is kept anew.
    blocks_.pin(id);
    storing_.insert(id);
    actions.emplace_back(StoreBlock{scrubbed.block, held->offset_bytes});
  }
  pump_due_ = true;
  if ((disk_bad || arena_bad) && !size_of(id)) lost(id);
}

void MemoryServer::handle(Instant now, const BlockStored& done, Actions& actions) {
  CENOTE_CHECK(storing_.erase(done.id) == 1);
  blocks_.unpin(done.id);
  blocks_.expire(now);
  pump_due_ = true;
  const auto held = blocks_.find(done.id);
  if (done.status.ok() && held && stored_.emplace(done.id, held->size_bytes).second) {
    stored_bytes_ += stored_bytes(held->size_bytes);
  } else if (done.status.ok() && !held && !stored_.contains(done.id)) {
    remove_files({done.id}, false, actions);  // Dropped meanwhile.
  } else if (bad(done.status) && held) {      // It rotted while it was written: hashed on the way.
    ++corrupt_blocks_;
    blocks_.discard(done.id, now);
    if (!size_of(done.id)) lost(done.id);
  } else if (!done.status.ok()) {
    disk_note_ = str_cat("data_dir takes no blocks: ", to_std(done.status.message()));
  }
}

}  // namespace cenote::node
