#include "node/repair_index.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::node {

void RepairIndex::add(const Digest& id, Entry entry) {
  if (entry.kind == Kind::kShort) {
    ++short_;
    short_bytes_ += uint64_t{entry.is.size_bytes} * entry.is.missing;
    if (!copies_.contains(id)) {
      if (entry.from > Instant{}) waiting_.emplace(entry.from, id);
      else ready_.insert(key(id, entry.is));
    }
  } else if (entry.kind == Kind::kSurplus) {
    surplus_.emplace(entry.from, id);
  } else {
    ++lost_;
  }
  CENOTE_CHECK(entries_.emplace(id, std::move(entry)).second);
}

std::optional<RepairIndex::Entry> RepairIndex::take(const Digest& id) {
  const auto found = entries_.extract(id);
  if (found.empty()) return std::nullopt;
  const Entry& entry = found.mapped();
  if (entry.kind == Kind::kShort) {
    --short_;
    short_bytes_ -= uint64_t{entry.is.size_bytes} * entry.is.missing;
    ready_.erase(key(id, entry.is));
    waiting_.erase({entry.from, id});
  } else if (entry.kind == Kind::kSurplus) {
    surplus_.erase({entry.from, id});
  } else {
    --lost_;
  }
  return entry;
}

void RepairIndex::set_short(const Digest& id, const Short& is, Instant from) {
  const std::optional<Entry> old = take(id);
  Entry entry{.kind = Kind::kShort, .is = is, .from = from, .failed_at = {}};
  if (old && old->kind == Kind::kShort) {
    entry = *old;
    entry.is = is;
  }
  add(id, std::move(entry));
}

void RepairIndex::set_surplus(const Digest& id, Instant from) {
  const std::optional<Entry> old = take(id);
  add(id, {.kind = Kind::kSurplus, .is = {}, .from = old && old->kind == Kind::kSurplus ? old->from : from, .failed_at = {}});
}

void RepairIndex::set_lost(const Digest& id) {
  take(id);
  add(id, {.kind = Kind::kLost, .is = {}, .from = {}, .failed_at = {}});
}

void RepairIndex::set_whole(const Digest& id) { take(id); }

std::vector<Digest> RepairIndex::ready(Instant now, size_t limit) {
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    Entry& entry = entries_.at(waiting_.begin()->second);
    ready_.insert(key(waiting_.begin()->second, entry.is));
    entry.from = {};
    waiting_.erase(waiting_.begin());
  }
  std::vector<Digest> ids;
  for (auto entry = ready_.begin(); entry != ready_.end() && ids.size() < limit; ++entry) ids.push_back(std::get<Digest>(*entry));
  return ids;
}

std::vector<Digest> RepairIndex::surplus(Instant now, size_t limit) const {
  std::vector<Digest> ids;
  for (auto entry = surplus_.begin(); entry != surplus_.end() && entry->first <= now && ids.size() < limit; ++entry) ids.push_back(entry->second);
  return ids;
}

void RepairIndex::postpone(const Digest& id, Instant until) {
  std::optional<Entry> entry = take(id);
  if (!entry) return;
  entry->from = until;
  add(id, *std::move(entry));
}

bool RepairIndex::is_short(const Digest& id) const {
  const auto entry = entries_.find(id);
  return entry != entries_.end() && entry->second.kind == Kind::kShort;
}

const std::string* RepairIndex::failed_at(const Digest& id) const {
  const auto entry = entries_.find(id);
  return entry == entries_.end() || entry->second.failed_at.empty() ? nullptr : &entry->second.failed_at;
}

void RepairIndex::begin(Copy copy) {
  const Digest id = copy.order.block.id;
  const uint32_t size = copy.order.block.size_bytes;
  CENOTE_CHECK(is_short(id) && !copy.order.sources.empty());
  ready_.erase(key(id, entries_.at(id).is));
  by_target_[copy.target].insert(id);
  ++in_[copy.target].copies;
  in_[copy.target].bytes += size;
  ++out_[copy.order.sources.front()].copies;
  out_[copy.order.sources.front()].bytes += size;
  CENOTE_CHECK(copies_.emplace(id, std::move(copy)).second);
}

const RepairIndex::Copy* RepairIndex::copy(const Digest& id) const {
  const auto found = copies_.find(id);
  return found == copies_.end() ? nullptr : &found->second;
}

// It is no copy any more; its block, if it still lacks one, is in its place again.
void RepairIndex::settle(const Copy& copy) {
  const Digest& id = copy.order.block.id;
  const auto forget = [size = copy.order.block.size_bytes](std::map<std::string, Load>& loads, const std::string& server) {
    const auto load = loads.find(server);
    load->second.bytes -= size;
    if (--load->second.copies == 0) loads.erase(load);
  };
  forget(in_, copy.target);
  forget(out_, copy.order.sources.front());
  const auto target = by_target_.find(copy.target);
  target->second.erase(id);
  if (target->second.empty()) by_target_.erase(target);
  if (std::optional<Entry> entry = take(id)) add(id, *std::move(entry));
}

void RepairIndex::finished(Instant now, const Digest& id) {
  const auto copy = copies_.extract(id);
  settle(copy.mapped());
  const uint32_t size = copy.mapped().order.block.size_bytes;
  ++copied_blocks_;
  copied_bytes_ += size;
  while (!lately_.empty() && lately_.front().first + kRateOver < now) lately_.pop_front();
  lately_.emplace_back(now, size);
  if (const auto entry = entries_.find(id); entry != entries_.end()) {
    entry->second.failures = 0;
    entry->second.failed_at.clear();
  }
}

void RepairIndex::cancelled(const Digest& id) {
  const auto copy = copies_.extract(id);
  if (!copy.empty()) settle(copy.mapped());
}

uint32_t RepairIndex::failed(Instant now, const Digest& id) {
  const auto copy = copies_.extract(id);
  if (copy.empty()) return 0;
  settle(copy.mapped());
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return 1;
  const uint32_t failures = ++entry->second.failures;
  entry->second.failed_at = copy.mapped().target;
  postpone(id, now + std::min(kRetryMax, kRetryMin * (int64_t{1} << std::min(failures - 1, 6u))));
  return failures;
}

std::vector<const RepairIndex::Copy*> RepairIndex::copies_to(const std::string& server) const {
  std::vector<const Copy*> copies;
  if (const auto target = by_target_.find(server); target != by_target_.end()) {
    for (const Digest& id : target->second) copies.push_back(&copies_.at(id));
  }
  return copies;
}

std::vector<Digest> RepairIndex::older_than(Instant since) const {
  std::vector<Digest> ids;
  for (const auto& [id, copy] : copies_) {
    if (copy.since < since) ids.push_back(id);
  }
  return ids;
}

RepairIndex::Load RepairIndex::load_of(const std::map<std::string, Load>& loads, const std::string& server) {
  const auto load = loads.find(server);
  return load == loads.end() ? Load{} : load->second;
}

Instant RepairIndex::next(Instant now) const {
  Instant next = Instant::infinite_future();
  if (!waiting_.empty()) next = std::min(next, std::max(now, waiting_.begin()->first));
  if (!surplus_.empty()) next = std::min(next, std::max(now, surplus_.begin()->first));
  return next;
}

RepairStatus RepairIndex::status(Instant now) const {
  uint64_t bytes = 0;
  for (const auto& [at, size] : lately_) bytes += at + kRateOver < now ? 0 : size;
  return {.short_blocks = short_, .short_bytes = short_bytes_, .lost_blocks = lost_, .copying = copies_.size(), .copied_blocks = copied_blocks_,
          .copied_bytes = copied_bytes_, .bytes_per_second = bytes * 1000 / static_cast<uint64_t>(kRateOver.ms())};
}

}  // namespace cenote::node
