// Replicas that are made here: read from other servers into the arena, checked, and kept like what was sealed.
//
// A copy is ordered, waits for its turn, is read (FetchCopy) from one source after the other until one gives the right bytes (CheckCopy), and
// is then held, or has failed. The controller hears of either and decides what is next; an order that is there already is answered by saying
// so. Readers come first: few copies run at once, and no faster than options.copy_bytes_per_second.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "node/memory_server.h"

namespace cenote::node {

void MemoryServer::handle(Instant, const CopiesWanted& wanted, Actions&) {
  std::map<std::string_view, const MemoryServerInfo*> sources;
  for (const MemoryServerInfo& source : wanted.sources) sources.emplace(source.name, &source);
  for (const Digest& id : std::exchange(copies_waiting_, {})) copies_.erase(id);
  for (const CopyOrder& order : wanted.copies) {
    const BlockRef& block = order.block;
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || copies_.contains(block.id)) continue;
    Copy copy{.block = block, .sources = {}, .room = {}};
    for (const std::string& name : order.sources) {
      if (const auto source = sources.find(name); source != sources.end()) copy.sources.push_back(*source->second);
    }
    copies_.emplace(block.id, std::move(copy));
    copies_waiting_.push_back(block.id);
  }
}

Instant MemoryServer::next_copy() const {
  return copies_waiting_.empty() || copies_running_ >= kCopiesAtOnce || draining_ ? Instant::infinite_future() : copy_at_;
}

void MemoryServer::pump_copies(Instant now, Actions& actions) {
  while (next_copy() <= now) {
    const auto copy = copies_.find(copies_waiting_.front());
    CENOTE_CHECK(copy != copies_.end() && !copy->second.room);
    if (!begin_copy(now, copy, actions)) return;
    copies_waiting_.pop_front();
  }
}

bool MemoryServer::begin_copy(Instant now, Copies::iterator copy, Actions& actions) {
  const BlockRef block = copy->second.block;
  if (!options_.disk && blocks_.revive(block.id)) note_came(block);
  if (size_of(block.id)) {
    note_came(block);  // Said again: who ordered it does not know.
    copies_.erase(copy);
    return true;
  }
  if (copy->second.sources.empty()) {
    fail_copy(copy, "no server to read it from was named");
    return true;
  }
  const uint64_t on_disk = stored_bytes(block.size_bytes), taken = stored_bytes_ + disk_reserved_bytes_;
  if (options_.disk && (on_disk > options_.disk_capacity_bytes - std::min(options_.disk_capacity_bytes, taken) || (disk_refuses_ && now < disk_full_until_))) {
    fail_copy(copy, str_cat("no room on disk, ", format_bytes(taken), " of ", format_bytes(options_.disk_capacity_bytes), " taken"));
    return true;
  }
  copy->second.room = make_room(now, block.size_bytes);
  if (!copy->second.room) {
    const Instant room_at = options_.disk ? blocks_.next_grant_end(now) : Instant::infinite_future();
    if (room_at == Instant::infinite_future()) {
      fail_copy(copy, str_cat("no room for ", format_bytes(block.size_bytes), " in one piece, ", format_bytes(blocks_.extents().free_bytes()), " of ",
                              format_bytes(options_.block_area_bytes), " free"));
      return true;
    }
    copy_at_ = std::max(room_at, now + Duration::from_ms(1));  // What readers hold now may leave then: it is on disk.
    return false;
  }
  if (options_.disk) disk_reserved_bytes_ += on_disk;
  ++copies_running_;
  if (options_.copy_bytes_per_second > 0) {
    const auto took = Duration{static_cast<int64_t>(1e9 * static_cast<double>(block.size_bytes) / static_cast<double>(options_.copy_bytes_per_second))};
    copy_at_ = std::max(copy_at_, now) + took;
  }
  actions.emplace_back(FetchCopy{block, copy->second.sources.front(), copy->second.room->offset_bytes});
  return true;
}

void MemoryServer::fail_copy(Copies::iterator copy, std::string why) {
  copies_failed_.push_back({.block = copy->first, .why = std::move(why)});
  copies_.erase(copy);
}

void MemoryServer::end_copy(Copies::iterator copy) {
  blocks_.cancel(*std::exchange(copy->second.room, std::nullopt));
  if (options_.disk) disk_reserved_bytes_ -= stored_bytes(copy->second.block.size_bytes);
  --copies_running_;
  pump_due_ = true;
}

void MemoryServer::next_source(Copies::iterator copy, const absl::Status& why, Actions& actions) {
  Copy& tried = copy->second;
  const std::string source = tried.sources.front().name;
  tried.sources.erase(tried.sources.begin());
  tried.checking = false;
  if (!tried.stale && !tried.sources.empty() && !draining_) {
    actions.emplace_back(FetchCopy{tried.block, tried.sources.front(), tried.room->offset_bytes});
    return;
  }
  end_copy(copy);
  fail_copy(copy, str_cat("from ", source, ": ", why.message()));
}

void MemoryServer::handle(Instant, const CopyFetched& done, Actions& actions) {
  const auto copy = copies_.find(done.id);
  CENOTE_CHECK(copy != copies_.end() && copy->second.room && !copy->second.checking);
  if (!done.status.ok() || copy->second.stale) return next_source(copy, done.status.ok() ? absl::CancelledError("dropped meanwhile") : done.status, actions);
  copy->second.checking = true;
  actions.emplace_back(CheckCopy{copy->second.block, copy->second.room->offset_bytes, options_.disk});
}

void MemoryServer::handle(Instant now, const CopyChecked& done, Actions& actions) {
  const auto found = copies_.find(done.id);
  CENOTE_CHECK(found != copies_.end() && found->second.checking);
  Copy& copy = found->second;
  if (done.disk) {
    disk_note_ = str_cat("data_dir takes no blocks: ", to_std(done.status.message()));
    disk_full_until_ = now + kDiskRetry;
    disk_refuses_ = true;
    copy.sources.resize(1);  // Another source is no help.
  }
  if (absl::IsDataLoss(done.status)) doubtful_.push_back({.server = copy.sources.front().name, .block = done.id});
  if (done.status.ok() && !copy.stale) {
    const Copy kept = std::move(copy);
    copies_.erase(found);
    --copies_running_;
    keep_copy(now, kept);
    return;
  }
  copy.checking = false;  // Before its file is removed, unless it is a seal's or was stored before.
  if (options_.disk && !stored_.contains(done.id)) remove_files({done.id}, false, actions);
  next_source(found, done.status.ok() ? absl::CancelledError("dropped meanwhile") : done.status, actions);
}

void MemoryServer::keep_copy(Instant now, const Copy& copy) {
  const BlockRef& block = copy.block;
  if (options_.disk) {
    disk_note_.clear();
    disk_refuses_ = false;
    disk_reserved_bytes_ -= stored_bytes(block.size_bytes);
    if (stored_.emplace(block.id, block.size_bytes).second) stored_bytes_ += stored_bytes(block.size_bytes);
  }
  blocks_.hold(block, *copy.room, now);  // False: a seal brought it meanwhile.
  arrived(block.id, block.size_bytes);
  pump_due_ = true;
  note_came(block);
}

}  // namespace cenote::node
