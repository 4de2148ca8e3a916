#include "node/memory_server.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/units.h"

namespace cenote::node {
namespace {

// Holders count a grant from before their request left; what is added here is for clocks that do not run equally fast (monotonic
// clocks are slewed by at most 500 ppm).
Duration with_drift(Duration duration) { return {duration.ns + duration.ns / 512 + Duration::from_ms(1).ns}; }

}  // namespace

ArenaParts part_arena(uint64_t capacity_bytes, uint64_t slab_bytes_max, uint32_t slabs_max) {
  constexpr uint64_t kPage = 2 * kMiB;
  const uint64_t wanted = round_up(slab_bytes_max, kPage) > capacity_bytes / slabs_max ? capacity_bytes : round_up(slab_bytes_max, kPage) * slabs_max;
  const uint64_t slabs = std::max(kBlockBytesMax, std::min(wanted, capacity_bytes / 8) / kPage * kPage);
  CENOTE_CHECK(capacity_bytes > slabs);
  return {.block_area_bytes = capacity_bytes - slabs, .slab_area_bytes = slabs};
}

MemoryServer::MemoryServer(MemoryServerOptions options)
    : options_(std::move(options)), blocks_(options_.block_area_bytes), slab_extents_(options_.slab_area_bytes, kBlockAlignBytes) {
  CENOTE_CHECK(options_.incarnation != 0 && options_.slabs_max > 0 && options_.grant_duration.ns > 0 && options_.slab_duration.ns > 0);
}

void MemoryServer::step(Instant now, std::span<const MemoryServerEvent> events, Actions& actions) {
  expire(now, actions);
  for (const MemoryServerEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
}

Instant MemoryServer::next_deadline() const {
  Instant next = blocks_.next_expiry();
  for (const auto& [number, slab] : slabs_) {
    if (slab.state == SlabState::kOpen) next = std::min(next, slab.expires);
  }
  return next;
}

void MemoryServer::expire(Instant now, Actions& actions) {
  blocks_.expire(now);
  while (!grants_.empty() && grants_.front() <= now) grants_.pop_front();
  for (auto slab = slabs_.begin(); slab != slabs_.end(); ++slab) {
    if (slab->second.state == SlabState::kOpen && slab->second.expires <= now) close(slab, 0, actions);
  }
}

// ---- grants ---------------------------------------------------------------------------------------------------------------
void MemoryServer::handle(Instant now, const GrantAsked& ask, Actions& actions) {
  if (draining_) {
    actions.emplace_back(GrantReply{ask.call, absl::UnavailableError(str_cat("memory server ", options_.name, " is stopping; read another replica"))});
    return;
  }
  if (grants_.size() >= kGrantsMax) {
    actions.emplace_back(GrantReply{ask.call, absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " has ", kGrantsMax,
                                                                               " live grants, its limit; ask again in a second"))});
    return;
  }
  Grant grant{.incarnation = options_.incarnation,
              .region_key = options_.read_key,
              .region_base = options_.read_base,
              .duration = options_.grant_duration};
  const Instant until = now + with_drift(options_.grant_duration);
  for (const Digest& id : ask.ids) {
    if (const auto place = blocks_.find(id)) {
      blocks_.grant(id, until);
      grant.blocks.push_back(*place);
    } else {
      grant.missing.push_back(id);
    }
  }
  if (!grant.blocks.empty()) grants_.push_back(until);
  actions.emplace_back(GrantReply{ask.call, std::move(grant)});
}

// ---- slabs ----------------------------------------------------------------------------------------------------------------
absl::StatusOr<memory::Extent> MemoryServer::admit_slab(const SlabAsked& ask) {
  if (draining_) return absl::UnavailableError(str_cat("memory server ", options_.name, " is stopping; write to another"));
  const uint64_t limit = std::min(options_.slab_bytes_max, options_.slab_area_bytes);
  if (ask.size_bytes == 0 || ask.size_bytes > limit) {
    return absl::InvalidArgumentError(str_cat("a slab of ", ask.size_bytes, " bytes at ", options_.name, ": must be 1 to ", limit,
                                              " bytes; write in several slabs"));
  }
  if (slabs_.size() >= options_.slabs_max) {
    return absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " has ", slabs_.size(),
                                                " write slabs open, its limit (slabs_max); try again when one is sealed or expires"));
  }
  const auto extent = slab_extents_.take(ask.size_bytes);
  if (!extent) {
    return absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " has no room for a slab of ", format_bytes(ask.size_bytes),
                                                ": ", format_bytes(slab_extents_.largest_free_bytes()), " of ",
                                                format_bytes(options_.slab_area_bytes), " are free in one piece; ask for less or later"));
  }
  return *extent;
}

void MemoryServer::handle(Instant, const SlabAsked& ask, Actions& actions) {
  const auto extent = admit_slab(ask);
  if (!extent.ok()) {
    actions.emplace_back(SlabReply{ask.call, extent.status()});
    return;
  }
  const uint64_t number = next_slab_++;
  slabs_.emplace(number, Slab{.extent = *extent, .size_bytes = ask.size_bytes, .writer = ask.writer, .call = ask.call});
  actions.emplace_back(RegisterSlab{number, extent->offset_bytes, ask.size_bytes});
}

void MemoryServer::handle(Instant now, const SlabRegistered& done, Actions& actions) {
  const auto found = slabs_.find(done.slab);
  CENOTE_CHECK(found != slabs_.end() && found->second.state == SlabState::kRegistering);
  Slab& slab = found->second;
  if (!done.status.ok()) {
    actions.emplace_back(SlabReply{slab.call, annotate(done.status, str_cat("memory server ", options_.name, " cannot register a slab"))});
    slab_extents_.give(slab.extent);
    slabs_.erase(found);
    return;
  }
  slab.state = SlabState::kOpen;
  slab.expires = now + with_drift(options_.slab_duration);
  actions.emplace_back(SlabReply{std::exchange(slab.call, 0), SlabInfo{.slab = done.slab,
                                                                    .incarnation = options_.incarnation,
                                                                    .region_key = done.key,
                                                                    .region_base = done.base,
                                                                    .size_bytes = slab.size_bytes,
                                                                    .duration = options_.slab_duration,
                                                                    .fabric_provider = options_.fabric_provider,
                                                                    .fabric_address = options_.fabric_address}});
}

absl::StatusOr<MemoryServer::Slabs::iterator> MemoryServer::find_open(uint64_t slab, Incarnation incarnation) {
  if (incarnation != options_.incarnation) {
    return absl::UnavailableError(str_cat("memory server ", options_.name, " restarted since slab ", slab, " was opened; write it again"));
  }
  const auto found = slabs_.find(slab);
  if (found == slabs_.end() || found->second.state != SlabState::kOpen) {
    return absl::NotFoundError(str_cat("memory server ", options_.name, " has no open slab ", slab,
                                       ": sealed, abandoned, or expired after ", format_duration(options_.slab_duration), "; write it again"));
  }
  return found;
}

void MemoryServer::close(Slabs::iterator slab, CallId call, Actions& actions) {
  slab->second.state = SlabState::kClosing;
  slab->second.call = call;
  actions.emplace_back(UnregisterSlab{slab->first});
}

void MemoryServer::handle(Instant, const AbandonAsked& ask, Actions& actions) {
  const auto slab = find_open(ask.slab, ask.incarnation);
  if (!slab.ok()) {
    actions.emplace_back(AbandonReply{ask.call, slab.status()});
    return;
  }
  close(*slab, ask.call, actions);
}

void MemoryServer::handle(Instant, const SlabUnregistered& done, Actions& actions) {
  const auto found = slabs_.find(done.slab);
  CENOTE_CHECK(found != slabs_.end());
  Slab& slab = found->second;
  if (slab.state == SlabState::kSealClosing) {
    slab.state = SlabState::kSealing;
    actions.emplace_back(CopyAndHash{done.slab, slab.copies});
    return;
  }
  CENOTE_CHECK(slab.state == SlabState::kClosing);
  if (slab.call != 0) actions.emplace_back(AbandonReply{slab.call, absl::OkStatus()});
  slab_extents_.give(slab.extent);
  slabs_.erase(found);
}

// ---- sealing --------------------------------------------------------------------------------------------------------------
// Checks every range and reserves room for what is not there; on an error nothing stays reserved.
absl::Status MemoryServer::reserve_ranges(const SealAsked& ask, Slab& slab) {
  if (ask.ranges.empty() || ask.ranges.size() > kRangesMax) {
    return absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": ", ask.ranges.size(), " ranges, must be 1 to ", kRangesMax));
  }
  const auto undo = [&] {
    for (const CopyRange& copy : slab.copies) {
      blocks_.cancel({copy.target_offset_bytes, round_up(copy.block.size_bytes, kBlockAlignBytes)});
    }
    slab.copies.clear();
    slab.present.clear();
    slab.present_bytes = 0;
  };
  std::map<Digest, uint32_t> seen;
  for (const SealRange& range : ask.ranges) {
    const BlockRef& block = range.block;
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || block.size_bytes > slab.size_bytes ||
        range.offset_bytes > slab.size_bytes - block.size_bytes) {
      undo();
      return absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": block ", block.id.short_hex(), " of ", block.size_bytes,
                                                     " bytes at ", range.offset_bytes, " does not lie in the slab's ", slab.size_bytes,
                                                     " bytes, or is not of 1 to ", kBlockBytesMax, " bytes"));
    }
    if (const auto [entry, first] = seen.emplace(block.id, block.size_bytes); !first) {
      if (entry->second != block.size_bytes) {
        undo();
        return absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": block ", block.id.short_hex(), " is given with ",
                                                       entry->second, " and with ", block.size_bytes, " bytes"));
      }
      slab.present_bytes += block.size_bytes;
      continue;
    }
    if (blocks_.revive(block.id)) {
      added_[block.id] = block.size_bytes;
      dropped_.erase(block.id);
    }
    if (const auto held = blocks_.find(block.id)) {
      if (held->size_bytes != block.size_bytes) {
        undo();
        return absl::InvalidArgumentError(str_cat("block ", block.id.short_hex(), " has ", held->size_bytes, " bytes, not ", block.size_bytes));
      }
      slab.present.push_back(block.id);
      slab.present_bytes += block.size_bytes;
      continue;
    }
    const auto room = blocks_.reserve(block.size_bytes);
    if (!room) {
      undo();
      return absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " is full: no room for a block of ",
                                                       format_bytes(block.size_bytes), ", ", format_bytes(blocks_.extents().free_bytes()), " of ",
                                                       format_bytes(options_.block_area_bytes),
                                                       " free; remove models or raise `capacity`"));
    }
    slab.copies.push_back({.source_offset_bytes = slab.extent.offset_bytes + range.offset_bytes,
                           .target_offset_bytes = room->offset_bytes,
                           .block = block});
  }
  return absl::OkStatus();
}

void MemoryServer::handle(Instant, const SealAsked& ask, Actions& actions) {
  const auto slab = find_open(ask.slab, ask.incarnation);
  if (!slab.ok()) {
    actions.emplace_back(SealReply{ask.call, slab.status()});
    return;
  }
  if (const absl::Status status = reserve_ranges(ask, (*slab)->second); !status.ok()) {
    actions.emplace_back(SealReply{ask.call, status});
    close(*slab, 0, actions);  // A seal ends its slab, whatever comes of it.
    return;
  }
  (*slab)->second.state = SlabState::kSealClosing;
  (*slab)->second.call = ask.call;
  actions.emplace_back(UnregisterSlab{ask.slab});
}

void MemoryServer::handle(Instant, const SealVerified& done, Actions& actions) {
  const auto found = slabs_.find(done.slab);
  CENOTE_CHECK(found != slabs_.end() && found->second.state == SlabState::kSealing);
  actions.emplace_back(SealReply{found->second.call, finish_seal(found->second, done.status)});
  slab_extents_.give(found->second.extent);
  slabs_.erase(found);
}

absl::StatusOr<SealResult> MemoryServer::finish_seal(Slab& slab, const absl::Status& verified) {
  absl::Status status = verified;
  for (const Digest& id : slab.present) {
    if (status.ok() && !blocks_.find(id)) {
      status = absl::UnavailableError(str_cat("block ", id.short_hex(), " was dropped while the slab was sealed; write it again"));
    }
  }
  SealResult result{.deduplicated_bytes = slab.present_bytes};
  for (const CopyRange& copy : slab.copies) {
    const memory::Extent room{copy.target_offset_bytes, round_up(copy.block.size_bytes, kBlockAlignBytes)};
    if (!status.ok()) {
      blocks_.cancel(room);
    } else if (blocks_.hold(copy.block, room)) {
      result.sealed_bytes += copy.block.size_bytes;
      added_[copy.block.id] = copy.block.size_bytes;
      dropped_.erase(copy.block.id);
    } else {  // Another slab brought it meanwhile (or it was leaving, and came back).
      result.deduplicated_bytes += copy.block.size_bytes;
      added_[copy.block.id] = copy.block.size_bytes;
      dropped_.erase(copy.block.id);
    }
  }
  if (!status.ok()) return status;
  return result;
}

// ---- the controller's side ------------------------------------------------------------------------------------------------
void MemoryServer::handle(Instant now, const BlocksDropped& drop, Actions&) {
  for (const Digest& id : drop.ids) {
    blocks_.drop(id, now);
    added_.erase(id);
    dropped_.insert(id);  // Said also of what was not here, so that the controller stops asking.
  }
}

void MemoryServer::handle(Instant now, const DrainAsked&, Actions&) {
  if (!draining_) drain_began_ = now;
  draining_ = true;
}

void MemoryServer::fill_report(bool whole, MemberReport& report) {
  report.memory.capacity_bytes = options_.block_area_bytes;
  report.memory.used_bytes = blocks_.used_bytes();
  report.memory.incarnation = options_.incarnation;
  report.memory.fabric_provider = options_.fabric_provider;
  report.memory.fabric_address = options_.fabric_address;
  report.draining = draining_;
  report.slabs_open = slabs_.size();
  report.grants_live = grants_.size();
  report.inventory = whole;
  if (whole) {
    report.held = blocks_.held();
  } else {
    for (const auto& [id, size] : added_) report.held.push_back({.id = id, .size_bytes = size});
  }
  report.dropped.assign(dropped_.begin(), dropped_.end());
  added_.clear();
  dropped_.clear();
}

bool MemoryServer::drained(Instant now) const {
  if (!draining_) return false;
  for (const auto& [number, slab] : slabs_) {
    if (slab.state == SlabState::kSealClosing || slab.state == SlabState::kSealing) return false;
  }
  return grants_.empty() || now >= drain_began_ + kDrainReadsFor;
}

}  // namespace cenote::node
