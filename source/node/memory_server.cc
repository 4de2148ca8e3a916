#include "node/memory_server.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "node/memory_server_impl.h"

namespace cenote::node {

ArenaParts part_arena(uint64_t capacity_bytes, uint64_t slab_bytes_max, uint32_t slabs_max) {
  constexpr uint64_t kPage = 2 * kMiB;
  const uint64_t wanted = round_up(slab_bytes_max, kPage) > capacity_bytes / slabs_max ? capacity_bytes : round_up(slab_bytes_max, kPage) * slabs_max;
  const uint64_t slabs = std::max(kBlockBytesMax, std::min(wanted, capacity_bytes / 8) / kPage * kPage);
  CENOTE_CHECK(capacity_bytes > slabs);
  return {.block_area_bytes = capacity_bytes - slabs, .slab_area_bytes = slabs};
}

MemoryServer::MemoryServer(MemoryServerOptions options)
    : options_(std::move(options)), blocks_(options_.block_area_bytes), slab_extents_(options_.slab_area_bytes, kBlockAlignBytes), lineage_(options_.lineage) {
  CENOTE_CHECK(options_.incarnation != 0 && options_.slabs_max > 0 && options_.grant_duration.ns > 0 && options_.slab_duration.ns > 0);
  CENOTE_CHECK(options_.disk || options_.stored.empty());
  for (const BlockRef& block : options_.stored) {
    CENOTE_CHECK(stored_.emplace(block.id, block.size_bytes).second);
    stored_bytes_ += stored_bytes(block.size_bytes);
  }
  options_.stored.clear();
  lineage_sequence_ = options_.lineage_sequence;
  // A pass begins somewhere else after each start: a server that restarts often still comes to every block.
  std::memcpy(scrub_cursor_.bytes.data(), &options_.incarnation, sizeof options_.incarnation);
}

void MemoryServer::step(Instant now, std::span<const MemoryServerEvent> events, Actions& actions) {
  expire(now, actions);
  for (const MemoryServerEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
  pump(now, actions);
  pump_copies(now, actions);
  scrub(now, actions);
}

Instant MemoryServer::next_deadline() const {
  Instant next = std::min({blocks_.next_expiry(), scrub_at_, next_copy()});
  for (const auto& [number, slab] : slabs_) {
    if (slab.state == SlabState::kOpen) next = std::min(next, slab.expires);
  }
  for (const Waiting& waiting : waiting_) next = std::min(next, waiting.deadline);
  return waiting_.empty() ? next : std::min(next, room_at_);
}

void MemoryServer::expire(Instant now, Actions& actions) {
  const uint64_t used = blocks_.used_bytes();
  blocks_.expire(now);
  if (blocks_.used_bytes() < used) pump_due_ = true;
  while (!grants_.empty() && grants_.front() <= now) grants_.pop_front();
  for (auto slab = slabs_.begin(); slab != slabs_.end(); ++slab) {
    if (slab->second.state == SlabState::kOpen && slab->second.expires <= now) close(slab, 0, actions);
  }
}

// ---- grants ---------------------------------------------------------------------------------------------------------------
Duration MemoryServer::grant_duration() const {
  return options_.disk ? std::min(options_.grant_duration, kDiskGrantMax) : options_.grant_duration;
}

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
  std::vector<Digest> on_disk;
  for (const Digest& id : ask.ids) {
    if (!blocks_.find(id) && stored_.contains(id)) on_disk.push_back(id);
  }
  const bool only_disk = !on_disk.empty() && on_disk.size() == ask.ids.size();
  if (only_disk && ask.wait.ns > 0 && waiting_.size() < kWaitingMax) {
    Waiting& waiting = waiting_.emplace_back(
        Waiting{.call = ask.call, .asked_at = now, .deadline = now + std::min(ask.wait, kGrantWaitMax), .ids = ask.ids, .wanted = {ask.ids.begin(), ask.ids.end()}});
    for (const auto& [id, loading] : loading_) waiting.loading += waiting.wanted.contains(id) ? 1 : 0;
    pump_due_ = true;
    return;
  }
  // What is here is granted first, so that it stays while the rest is read.
  answer(now, ask.call, now, ask.ids, actions);
  load_ahead(now, on_disk, actions);
}

void MemoryServer::answer(Instant now, CallId call, Instant asked_at, std::span<const Digest> ids, Actions& actions) {
  // The holder counts from before it asked: what it waited is not to cost it.
  Grant grant{.incarnation = options_.incarnation,
              .region_key = options_.read_key,
              .region_base = options_.read_base,
              .duration = (now - asked_at) + grant_duration()};
  const Instant until = now + with_drift(grant_duration());
  for (const Digest& id : ids) {
    if (const auto place = blocks_.find(id)) {
      blocks_.grant(id, until);
      grant.blocks.push_back(*place);
    } else if (!stored_.contains(id)) {
      grant.missing.push_back(id);
    }
  }
  if (!grant.blocks.empty()) grants_.push_back(until);
  actions.emplace_back(GrantReply{call, std::move(grant)});
}

// ---- slabs ----------------------------------------------------------------------------------------------------------------
absl::StatusOr<memory::Extent> MemoryServer::admit_slab(const SlabAsked& ask) {
  if (draining_) return absl::UnavailableError(str_cat("memory server ", options_.name, " is stopping; write to another"));
  if (options_.awaits_lineage && lineage_ == 0) return absl::UnavailableError(str_cat("memory server ", options_.name, " has just started and the controller has not spoken to it yet; try again in a moment"));
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
    actions.emplace_back(CopyAndHash{done.slab, slab.copies, options_.disk});
    return;
  }
  CENOTE_CHECK(slab.state == SlabState::kClosing);
  if (slab.call != 0) actions.emplace_back(AbandonReply{slab.call, absl::OkStatus()});
  slab_extents_.give(slab.extent);
  slabs_.erase(found);
}

// ---- the controller's side ------------------------------------------------------------------------------------------------
void MemoryServer::handle(Instant now, const BlocksDropped& drop, Actions& actions) {
  std::vector<Digest> files;
  for (const Digest& id : drop.ids) {
    if (stored_.contains(id)) files.push_back(id);
    forget_stored(id);
    blocks_.drop(id, now);
    if (const auto copy = copies_.find(id); copy != copies_.end()) copy->second.stale = true;
    lost(id);  // Said also of what was not here, so that the controller stops asking.
  }
  pump_due_ = true;
  remove_files(std::move(files), false, actions);
}

void MemoryServer::handle(Instant, const LineageTold& told, Actions& actions) {
  if (options_.disk && (lineage_ != told.lineage || lineage_sequence_ != told.sequence)) actions.emplace_back(RememberLineage{told.lineage, told.sequence});
  lineage_unsaid_ = lineage_unsaid_ || lineage_ != told.lineage;
  lineage_ = told.lineage;
  lineage_sequence_ = told.sequence;
}

void MemoryServer::handle(Instant now, const DrainAsked&, Actions& actions) {
  if (!draining_) drain_began_ = now;
  draining_ = true;
  for (const Waiting& waiting : waiting_) {
    actions.emplace_back(GrantReply{waiting.call, absl::UnavailableError(str_cat("memory server ", options_.name, " is stopping; read another replica"))});
  }
  waiting_.clear();
}

void MemoryServer::fill_report(Instant now, bool whole, MemberReport& report) {
  report.memory.capacity_bytes = options_.disk ? options_.disk_capacity_bytes : options_.block_area_bytes;
  report.memory.used_bytes = options_.disk ? stored_bytes_ : blocks_.used_bytes();
  if (disk_refuses_ && now < disk_full_until_) report.memory.used_bytes = report.memory.capacity_bytes;
  report.memory.incarnation = options_.incarnation;
  report.memory.fabric_provider = options_.fabric_provider;
  report.memory.fabric_address = options_.fabric_address;
  report.storage = {.disk = options_.disk,
                    .arena_capacity_bytes = options_.block_area_bytes,
                    .arena_used_bytes = blocks_.used_bytes(),
                    .read_back_bytes = read_back_bytes_,
                    .scrubbed_bytes = scrubbed_bytes_,
                    .corrupt_blocks = corrupt_blocks_};
  for (const std::string& note : {disk_note_, read_note_}) {
    if (!note.empty()) report.notes.push_back(note);
  }
  report.draining = draining_;
  report.slabs_open = slabs_.size();
  report.grants_live = grants_.size();
  report.lineage = lineage_;
  report.lineage_sequence = lineage_sequence_;
  lineage_unsaid_ = false;
  report.inventory = whole;
  if (whole) {
    report.held = blocks_.held();
    if (!stored_.empty()) {
      std::erase_if(report.held, [this](const BlockRef& block) { return stored_.contains(block.id); });
      for (const auto& [id, size] : stored_) report.held.push_back({.id = id, .size_bytes = size});
    }
  } else {
    for (const auto& [id, size] : added_) report.held.push_back({.id = id, .size_bytes = size});
  }
  report.dropped.assign(dropped_.begin(), dropped_.end());
  report.copies_failed = std::exchange(copies_failed_, {});
  report.doubtful = std::exchange(doubtful_, {});
  report.checked = std::exchange(checked_, {});
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
