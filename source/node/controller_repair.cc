// Repair: what lacks replicas is copied, what has one too many loses it, and who is to leave leaves when others have what it held.
//
// Nothing here walks all blocks in one step: blocks that events touched, and those of a server whose standing changed, are queued and judged
// some thousands a round; only those that lack something are kept (RepairIndex).
#include <algorithm>
#include <set>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "node/controller.h"

namespace cenote::node {
namespace {

constexpr policy::RepairLimits kLimits;
constexpr size_t kConsidered = 256;   // Blocks for which a round looks for a place.
constexpr Duration kNoPlaceFor = Duration::from_ms(2'000);  // When a block that found none is considered again,
// Some server is to say all again: what it said was not stored.
bool any_to_say_again(const auto& members) {
  return std::any_of(members.begin(), members.end(), [](const auto& member) { return member.second.ask_inventory != Instant::infinite_future(); });
}

constexpr Duration kNoTurnFor = Duration::from_ms(100);     // and one for which there may be one.

}  // namespace

// Called before the events are applied: a revision that is removed is still known then.
void Controller::touch(std::span<const CatalogueEvent> events) {
  struct Touch {
    Controller& controller;
    void all(const RevisionRecord& record, Instant from) {
      for (const BlockRef& block : distinct_blocks(record)) controller.touched_.emplace_back(block.id, from);
    }
    void operator()(const RevisionSealed& e) { all(e.record, controller.now_ + kFreshFor); }
    void operator()(const RevisionRemoved& e) {
      if (const RevisionRecord* record = controller.catalogue_.find(e.revision)) all(*record, {});
    }
    void operator()(const RevisionLabelled& e) { controller.touched_.emplace_back(e.label.id, controller.now_ + kFreshFor); }
    void operator()(const ReplicasAdded& e) {
      for (const BlockRef& block : e.blocks) controller.touched_.emplace_back(block.id, controller.now_ + kFreshFor);
    }
    void operator()(const ReplicasLost& e) {
      for (const Digest& block : e.blocks) controller.touched_.emplace_back(block, Instant{});
      for (auto& [who, leaving] : controller.leaving_) leaving.cursor = {};
      if (e.all) controller.rechecks_.push_back({});
    }
    void operator()(const TagMoved&) {}
    void operator()(const TagRemoved&) {}
    void operator()(const PrefetchSet&) {}
    void operator()(const OperationDone&) {}
    void operator()(const LineageSet&) {}
    void operator()(const NameOwned&) {}
  };
  for (const CatalogueEvent& event : events) std::visit(Touch{*this}, event);
  repair_due_ = true;
}

void Controller::note_copies(Instant now, const MemberReport& report, Actions& actions) {
  for (const CopyFailure& failure : report.copies_failed) {
    const RepairIndex::Copy* copy = repair_.copy(failure.block);
    if (copy == nullptr || copy->target != report.name) continue;
    repair_due_ = true;
    if (repair_.failed(now, failure.block) > 2) continue;  // It is tried again, ever more slowly: twice is news enough.
    actions.emplace_back(Say{true, str_cat("repair: ", report.name, " could not copy block ", failure.block.short_hex(), " ", failure.why)});
  }
}

// Somebody read wrong bytes: the server that they came from looks at its copy, and drops it if it is wrong. What the way did to them is no
// harm then.
void Controller::note_doubts(const MemberReport& report, Actions& actions) {
  for (const DoubtfulReplica& doubt : report.doubtful) {
    const auto member = members_.find(doubt.server);
    const auto held = catalogue_.held().find(doubt.server);
    if (member == members_.end() || held == catalogue_.held().end() || !held->second.contains(doubt.block)) continue;
    std::set<Digest>& checking = member->second.checking;
    if (checking.size() >= kChecksMax || !checking.insert(doubt.block).second) continue;
    member->second.copies_changed = true;
    actions.emplace_back(Say{true, str_cat(report.name, " read wrong bytes of block ", doubt.block.short_hex(), " from ", doubt.server, ", which looks at its copy now")});
  }
  if (const auto member = members_.find(report.name); member != members_.end()) {
    for (const Digest& block : report.checked) member->second.checking.erase(block);
  }
}

// It is no member any more: its copies end, and how long its blocks are waited for begins.
void Controller::leave(const std::string& server) {
  gone_[server] = {.since = now_, .for_good = leaving_.erase(server) > 0};
  std::vector<Digest> ended;
  for (const RepairIndex::Copy* copy : repair_.copies_to(server)) ended.push_back(copy->order.block.id);
  for (const Digest& id : ended) repair_.cancelled(id);
  repair_due_ = true;
}

Instant Controller::next_repair() const {
  if (!settled_) return Instant::infinite_future();
  return repair_due_ ? repair_at_ : std::max(repair_at_, repair_wake_);
}

void Controller::repair(Instant now, Actions& actions) {
  if (next_repair() > now) return;
  repair_at_ = now + kRepairRound;
  repair_wake_ = Instant::infinite_future();
  repair_due_ = false;
  judge_servers(now);
  judge_blocks(now);
  drop_surplus(now);
  plan_repair(now, actions);
  let_leave(now, actions);
  repair_due_ = repair_due_ || !touched_.empty() || !rechecks_.empty();
  repair_wake_ = std::min(repair_wake_, repair_.next(now));
}

// ---- servers ---------------------------------------------------------------------------------------------------------------
void Controller::judge_servers(Instant now) {
  std::map<std::string, policy::RepairServer> next;
  for (const auto& [name, blocks] : catalogue_.held()) next[name].name = name;
  for (const auto& [name, member] : members_) {
    if (member.report.role != Role::kMemory) continue;
    policy::RepairServer& server = next[name];
    server.name = name;
    if (!member.inventoried) continue;
    // One that drains by itself ends, most often to be started again: it is given time, as one that was killed.
    server.standing = leaving_.contains(name) ? policy::Standing::kLeaving : excluded(name) ? policy::Standing::kShunned : policy::Standing::kSound;
    server.takes = takes_blocks(member) && member.stream != 0 && !member.report.draining && !silence_.suspected(name);
    const MemoryServerInfo& memory = member.report.memory;
    server.free_bytes = memory.capacity_bytes - std::min(memory.capacity_bytes, memory.used_bytes);
  }
  const uint32_t wanted = policy::wanted_replicas(options_.replicas, servers_);
  const std::vector<policy::RepairServer> last = std::exchange(servers_, {});
  const std::map<std::string, uint32_t> last_index = std::exchange(server_index_, {});
  for (auto& [name, server] : next) {
    if (holds_live(name)) {
      gone_.erase(name);
    } else {
      const Gone& gone = gone_.try_emplace(name, Gone{.since = now}).first->second;
      const Instant for_good_at = gone.since + options_.repair_after;
      const bool away = !gone.for_good && now < for_good_at;
      server.standing = away ? policy::Standing::kAway : policy::Standing::kGone;
      if (away) repair_wake_ = std::min(repair_wake_, for_good_at);
    }
    const auto domain = options_.failure_domains.find(name);
    if (domain != options_.failure_domains.end()) server.failure_domain = domain->second;
    const auto before = last_index.find(name);
    const bool known = before != last_index.end();
    if ((known ? last[before->second].standing : policy::Standing::kGone) != server.standing) {
      rechecks_.push_back({.server = name, .cursor = {}});
      for (auto& [who, leaving] : leaving_) leaving.cursor = {};  // What was held elsewhere may not be now.
    }
    server_index_.emplace(name, static_cast<uint32_t>(servers_.size()));
    servers_.push_back(std::move(server));
  }
  std::erase_if(gone_, [&](const auto& gone) { return !server_index_.contains(gone.first); });
  if (policy::wanted_replicas(options_.replicas, servers_) != wanted) rechecks_.assign(1, {});
}

// ---- blocks ----------------------------------------------------------------------------------------------------------------
void Controller::judge_blocks(Instant now) {
  size_t left = kJudgedPerRound;
  for (; left > 0 && !touched_.empty(); --left) {
    const auto [id, from] = touched_.front();
    touched_.pop_front();
    judge(std::max(now, from), id);
  }
  while (left > 0 && !rechecks_.empty()) {
    Recheck& recheck = rechecks_.front();
    std::vector<Digest> ids;
    const auto take = [&](auto from, auto end, auto id_of) {
      for (; from != end && ids.size() < left; ++from) ids.push_back(id_of(*from));
    };
    const auto held = catalogue_.held().find(recheck.server);
    if (recheck.server.empty()) {
      take(catalogue_.blocks().upper_bound(recheck.cursor), catalogue_.blocks().end(), [](const auto& block) { return block.first; });
    } else if (held != catalogue_.held().end()) {
      take(held->second.upper_bound(recheck.cursor), held->second.end(), [](const Digest& id) { return id; });
    }
    for (const Digest& id : ids) judge(now, id);
    if (ids.size() < left) {
      rechecks_.pop_front();
      left -= ids.size();
    } else {
      recheck.cursor = ids.back();
      left = 0;
    }
  }
}

std::vector<uint32_t> Controller::holders_of(const Digest& id, bool& dropping) const {
  std::vector<uint32_t> holders;
  for (const std::string& server : catalogue_.blocks().at(id).servers) {
    const auto member = members_.find(server);
    const auto at = server_index_.find(server);
    if (member != members_.end() && member->second.dropping.contains(id)) dropping = true;
    else if (at != server_index_.end()) holders.push_back(at->second);
  }
  return holders;
}

void Controller::cancel_copy(const Digest& id) {
  const RepairIndex::Copy* copy = repair_.copy(id);
  if (copy == nullptr) return;
  if (const auto target = members_.find(copy->target); target != members_.end()) target->second.copies_changed = true;
  repair_.cancelled(id);
}

// `from`: nothing is copied before; now, or later.
void Controller::judge(Instant from, const Digest& id) {
  const auto state = catalogue_.blocks().find(id);
  const RepairIndex::Copy* copy = repair_.copy(id);
  if (copy != nullptr && state != catalogue_.blocks().end() && state->second.servers.contains(copy->target)) repair_.finished(now_, id);
  if (state == catalogue_.blocks().end() || state->second.references == 0) {
    repair_.set_whole(id);
    return cancel_copy(id);
  }
  bool dropping = false;
  const std::vector<uint32_t> holders = holders_of(id, dropping);
  const policy::Replicas replicas = policy::count_replicas(holders, servers_);
  const uint32_t wanted = policy::wanted_replicas(options_.replicas, servers_);
  if (replicas.counted < wanted && replicas.readable > 0) {
    repair_.set_short(id, {.readable = replicas.readable, .references = state->second.references, .size_bytes = state->second.size_bytes, .missing = wanted - replicas.counted},
                      from > now_ ? from : Instant{});
    return;
  }
  if (replicas.counted == 0 && replicas.readable == 0) {
    repair_.set_lost(id);
  } else if (replicas.sound > options_.replicas) {
    repair_.set_surplus(id, now_ + kSurplusAfter);
  } else {
    repair_.set_whole(id);
  }
  cancel_copy(id);
}

// ---- what is done ----------------------------------------------------------------------------------------------------------
void Controller::plan_repair(Instant now, Actions& actions) {
  for (const Digest& id : repair_.older_than(Instant{now.ns - kCopyMax.ns})) {
    members_.at(repair_.copy(id)->target).copies_changed = true;
    repair_.failed(now, id);
  }
  if (repair_.copying() > 0) repair_wake_ = std::min(repair_wake_, now + kCopyMax);
  for (policy::RepairServer& server : servers_) {  // Now that those that ended are known.
    const RepairIndex::Load in = repair_.load_in(server.name), out = repair_.load_out(server.name);
    server.copies_in = in.copies;
    server.bytes_in = in.bytes;
    server.copies_out = out.copies;
    server.bytes_out = out.bytes;
    server.free_bytes -= std::min(server.free_bytes, in.bytes + in.copies * kBlockAlignBytes);
  }
  std::vector<Digest> ids = repair_.ready(now, kConsidered);
  std::vector<policy::RepairBlock> blocks;
  std::erase_if(ids, [&](const Digest& id) {
    bool dropping = false;
    policy::RepairBlock block{.size_bytes = catalogue_.blocks().at(id).size_bytes, .holders = holders_of(id, dropping), .failed = {}};
    if (dropping) {  // A new replica must not come under an old one's drop.
      repair_.postpone(id, now + kNoPlaceFor);
      return true;
    }
    if (const std::string* failed = repair_.failed_at(id)) {
      if (const auto at = server_index_.find(*failed); at != server_index_.end()) block.failed = at->second;
    }
    blocks.push_back(std::move(block));
    return false;
  });
  const std::vector<policy::RepairCopy> copies = policy::plan_copies(blocks, servers_, kLimits, static_cast<uint32_t>(repair_.copying()));
  for (const policy::RepairCopy& copy : copies) {
    RepairIndex::Copy begun{.order = {.block = {.id = ids[copy.block], .size_bytes = blocks[copy.block].size_bytes}, .sources = {}}, .target = servers_[copy.target].name, .since = now};
    for (const uint32_t source : copy.sources) begun.order.sources.push_back(servers_[source].name);
    members_.at(begun.target).copies_changed = true;
    repair_.begin(std::move(begun));
  }
  // Others behind them may find a place. While copies are under way, limits may be all that is in the way.
  std::set<size_t> placed;
  for (const policy::RepairCopy& copy : copies) placed.insert(copy.block);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!placed.contains(i)) repair_.postpone(ids[i], now + (repair_.copying() == 0 ? kNoPlaceFor : kNoTurnFor));
  }
  repair_due_ = repair_due_ || blocks.size() == kConsidered;
  const RepairStatus status = repair_.status(now);
  if (!repairing_ && status.copying > 0) {
    actions.emplace_back(Say{true, str_cat("repair: ", status.short_blocks, " blocks lack replicas, ", format_bytes(status.short_bytes), " are to be copied")});
  } else if (repairing_ && status.copying == 0 && status.short_blocks == 0) {
    actions.emplace_back(Say{false, str_cat("repair: done, ", status.copied_blocks, " blocks, ", format_bytes(status.copied_bytes), " since the start")});
  }
  repairing_ = status.copying > 0 || (repairing_ && status.short_blocks > 0);
}

void Controller::drop_surplus(Instant now) {
  // While news waits to be stored, or the store refused what a server said, who holds what is only believed.
  const bool unsure = !appending_.empty() || !changes_.empty() || any_to_say_again(members_);
  for (const Digest& id : repair_.surplus(now, kConsidered)) {
    bool dropping = unsure || doubted(id) || !catalogue_.held_because().empty();  // The last: nothing may be dropped.
    const std::vector<uint32_t> holders = holders_of(id, dropping);
    const std::optional<uint32_t> victim = dropping ? std::nullopt : policy::choose_surplus(holders, servers_, options_.replicas);
    const auto member = victim ? members_.find(servers_[*victim].name) : members_.end();
    repair_.postpone(id, now + (unsure ? kNoPlaceFor : kSurplusAfter));
    if (member == members_.end() || !member->second.dropping.insert(id).second) continue;
    member->second.dropping_changed = true;
  }
}

// A holder looks at its copy just now.
bool Controller::doubted(const Digest& id) const {
  const std::set<std::string>& holders = catalogue_.blocks().at(id).servers;
  return std::any_of(holders.begin(), holders.end(), [&](const std::string& server) {
    const auto member = members_.find(server);
    return member != members_.end() && member->second.checking.contains(id);
  });
}

// Nobody needs it, or another server that stays has it for sure.
bool Controller::may_go(const Digest& id, const std::string& from) const {
  if (repair_.is_short(id)) return false;
  const auto block = catalogue_.blocks().find(id);
  if (block == catalogue_.blocks().end() || block->second.references == 0) return true;
  bool dropping = false;
  const std::vector<uint32_t> holders = holders_of(id, dropping);
  return std::any_of(holders.begin(), holders.end(), [&](uint32_t holder) {
    return servers_[holder].name != from && servers_[holder].standing == policy::Standing::kSound && servers_[holder].takes;
  });
}

// Once each block that it holds is held elsewhere, or nothing more can be done about that.
void Controller::let_leave(Instant now, Actions& actions) {
  if (!touched_.empty() || !rechecks_.empty()) return;
  const uint64_t copied = repair_.status(now).copied_blocks;
  for (auto leaving = leaving_.begin(); leaving != leaving_.end(); ++leaving) {
    const std::string& name = leaving->first;
    Leaving& state = leaving->second;
    const auto member = members_.find(name);
    if (state.told) continue;
    const bool writing = std::any_of(deploys_.begin(), deploys_.end(), [&](const auto& deploy) {
      return std::any_of(deploy.second.planned.begin(), deploy.second.planned.end(), [&](const auto& planned) { return planned.second == name; });
    });
    // A deploy ends or is ended; a store that refuses says nothing about copies.
    if (copied != state.copied_blocks || writing || any_to_say_again(members_)) state.stalled_at = now + kLeaveStalled;
    state.copied_blocks = copied;
    std::optional<Digest> stays;
    if (const auto held = catalogue_.held().find(name); held != catalogue_.held().end()) {
      auto block = held->second.upper_bound(state.cursor);
      for (size_t seen = 0; block != held->second.end() && !stays && seen < kJudgedPerRound; ++block, ++seen) {
        if (may_go(*block, name)) state.cursor = *block;
        else stays = *block;
      }
      if (block != held->second.end() && !stays) repair_due_ = true;
    }
    const Instant stalled_at = state.stalled_at + (repair_.copying() > 0 ? kCopyStalled : Duration{});
    if ((stays || repair_due_ || writing) && now < stalled_at) {
      repair_wake_ = std::min(repair_wake_, stalled_at);
      continue;
    }
    if (stays) actions.emplace_back(Say{true, str_cat("memory server ", name, " drains with blocks that no other server has taken, ", stays->short_hex(), " among them")});
    if (member->second.stream != 0) tell(now, member->second, DrainMember{}, actions);
    state.told = member->second.stream != 0;
  }
}

void Controller::fill_copies(const Member& member, MemoryDirective& directive) const {
  directive.check = {member.checking.begin(), member.checking.end()};
  std::set<std::string> sources;
  for (const RepairIndex::Copy* copy : repair_.copies_to(member.report.name)) {
    directive.copy.push_back(copy->order);
    sources.insert(copy->order.sources.begin(), copy->order.sources.end());
  }
  for (const std::string& source : sources) {
    if (const auto found = members_.find(source); found != members_.end()) directive.sources.push_back(found->second.report.memory);
  }
}

}  // namespace cenote::node
