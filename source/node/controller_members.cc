// Who is a member, and which blocks memory servers say they hold.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/nearest.h"
#include "base/status.h"
#include "base/units.h"
#include "node/controller.h"

namespace cenote::node {

// A report of a stream not seen before is a join. False: it was refused.
bool Controller::admit(Instant now, const Reported& e, Actions& actions) {
  const std::string& name = e.report.name;
  const auto refuse = [&](absl::Status status) {
    actions.emplace_back(Say{true, std::string(status.message())});
    refused_.insert(e.stream);
    actions.emplace_back(RefuseStream{e.stream, std::move(status)});
    return false;
  };
  if (name.empty() || e.report.incarnation == 0) return refuse(absl::InvalidArgumentError("a member must report its name and incarnation"));
  // Servers' names become part of the catalogue.
  if (const absl::Status status = check_event(ReplicasLost{.server = name, .all = true}); !status.ok()) return refuse(status);
  const auto found = members_.find(name);
  if (found == members_.end()) {
    if (members_.size() >= kMembersMax) return refuse(absl::ResourceExhaustedError(str_cat("the cluster has ", kMembersMax, " members, the limit")));
  } else {
    const Member& old = found->second;
    if (old.report.incarnation != e.report.incarnation && old.stream != 0) {
      return refuse(absl::AlreadyExistsError(str_cat("another ", role_name(old.report.role), " named ", name, " (", old.report.address, ", pid ", old.report.pid,
                                                     ") is in the cluster; give this one (", e.report.address, ", pid ", e.report.pid, ") a name of its own")));
    }
    if (old.report.incarnation != e.report.incarnation) {
      lose(name, Say{true, "is lost: restarted"}, actions);
      lost_.erase(name);
    }
    if (e.report.role == Role::kMemory) note_return(name);
  }
  if (const auto lost = lost_.extract(name); !lost.empty() && e.report.role == Role::kMemory) note_return(name);
  repair_due_ = true;
  Member& member = members_[name];
  if (member.stream != 0) streams_.erase(member.stream);
  member.stream = e.stream;
  member.inventoried = false;
  member.lineage_judged = member.lineage_known = false;
  member.told_lineage = member.told_sequence = 0;
  member.assignment.reset();
  member.view.reset();
  member.news_told = 0;
  // What it was to drop was too much when others were known to be there: that is judged again.
  std::erase_if(member.dropping, [&](const Digest& id) {
    const auto block = catalogue_.blocks().find(id);
    return block != catalogue_.blocks().end() && block->second.references > 0;
  });
  member.dropping_changed = !member.dropping.empty();
  if (const auto leaving = leaving_.find(name); leaving != leaving_.end()) leaving->second.told = false;  // It may not have heard.
  member.last_told = Instant{now.ns - kBeatInterval.ns};  // Hears at once.
  streams_.emplace(e.stream, name);
  told_dirty_ = true;
  actions.emplace_back(Say{false, str_cat(role_name(e.report.role), " ", name, " joined from ", e.report.address, ", pid ", e.report.pid)});
  if (e.report.role == Role::kMemory && !e.report.inventory) member.ask_inventory = now;
  return true;
}

void Controller::handle(Instant now, const Reported& e, Actions& actions) {
  if (refused_.contains(e.stream)) return;
  const auto stream = streams_.find(e.stream);
  if (stream == streams_.end() || stream->second != e.report.name || !members_.contains(e.report.name) ||
      members_.at(e.report.name).report.incarnation != e.report.incarnation) {
    if (!admit(now, e, actions)) return;
  }
  Member& member = members_.at(e.report.name);
  const MemberReport& old = member.report;
  const bool moved = old.address != e.report.address || old.draining != e.report.draining || old.memory.fabric_address != e.report.memory.fabric_address ||
                     !std::equal(old.executors.begin(), old.executors.end(), e.report.executors.begin(), e.report.executors.end(),
                                 [](const ExecutorReport& a, const ExecutorReport& b) { return policy::same_executor(policy::without_load(a), policy::without_load(b)); });
  if (moved) told_dirty_ = repair_due_ = true;
  member.last_seen = now;
  hear(now, e.report.name, actions);
  if (e.report.role == Role::kMemory) note_corrupt(old, e.report);
  if (e.report.role == Role::kAgent) note_seen(e.report);
  member.report = e.report;
  member.report.held.clear();
  member.report.dropped.clear();
  note_doubts(e.report, actions);
  member.report.doubtful.clear();
  member.report.seen.clear();
  member.report.checked.clear();
  member.report.copies_failed.clear();
  if (e.report.role != Role::kMemory) return;
  note_blocks(now, member, e.report, actions);
  note_copies(now, e.report, actions);
}

void Controller::note_blocks(Instant, Member& member, const MemberReport& report, Actions& actions) {
  if (report.inventory) {
    member.ask_inventory = Instant::infinite_future();
    member.delta.whole = true;
    member.delta.changes.clear();
  } else if (report.held.empty() && report.dropped.empty()) {
    return;
  }
  for (const Digest& id : report.dropped) member.delta.changes[id] = std::nullopt;
  for (const BlockRef& block : report.held) member.delta.changes[block.id] = block.size_bytes;
  if (member.delta.queued) return;
  member.delta.queued = true;
  const std::string server = report.name;
  // Whose report it is that is planned: another incarnation may have joined while this change waited for its turn.
  const auto planned = std::make_shared<Incarnation>(0);
  change({.plan =
              [this, server, planned] {
                if (const auto found = members_.find(server); found != members_.end()) *planned = found->second.report.incarnation;
                return absl::StatusOr<Events>(plan_replicas(server));
              },
          .done =
              [this, server, planned](const absl::Status& status, Actions&) {
                replicas_unwritable_ = status;
                const auto found = members_.find(server);
                if (found == members_.end() || found->second.report.incarnation != *planned) return;
                if (status.ok()) {
                  found->second.lineage_known = found->second.lineage_judged;
                  // A drop is over when the catalogue knows: a deploy that waits for it must not count the replica.
                  std::erase_if(found->second.dropping, [&](const Digest& id) {
                    const auto state = catalogue_.blocks().find(id);
                    return state == catalogue_.blocks().end() || !state->second.servers.contains(server);
                  });
                  return;
                }
                // What it said is lost: it must say all again. What the catalogue knows of it goes on being served meanwhile.
                found->second.delta.queued = false;
                found->second.lineage_judged = found->second.lineage_known;
                found->second.ask_inventory = found->second.last_seen + kInventoryRetry;
              },
          .checked = true},
         actions);
}

// What the server said since its last turn, as the events that tell the catalogue what it does not know yet.
Controller::Events Controller::plan_replicas(const std::string& server) {
  const auto found = members_.find(server);
  if (found == members_.end()) return {};
  Member& member = found->second;
  const ReplicaDelta delta = std::exchange(member.delta, {});
  if (delta.whole) {
    member.inventoried = true;
    member.copies_changed = !member.checking.empty() || !repair_.copies_to(server).empty();  // What it did not hear of, or what came to nothing unheard, is ordered again.
    told_dirty_ = garbage_dirty_ = repair_due_ = true;
  }
  ReplicasAdded added{.server = server};
  ReplicasLost lost{.server = server};
  static const std::set<Digest> kNone;
  const auto held = catalogue_.held().find(server);
  const std::set<Digest>& known = held == catalogue_.held().end() ? kNone : held->second;
  for (const auto& [id, size] : delta.changes) {
    if (size) {
      const auto state = catalogue_.blocks().find(id);
      const bool sane = *size > 0 && *size <= kBlockBytesMax && (state == catalogue_.blocks().end() || state->second.size_bytes == *size);
      if (!sane) continue;  // A server that says so holds something else: it is no replica.
    }
    if (size && !known.contains(id)) added.blocks.push_back({.id = id, .size_bytes = *size});
    if (!size && known.contains(id)) lost.blocks.push_back(id);
  }
  if (delta.whole) {
    for (const Digest& id : known) {
      if (!delta.changes.contains(id)) lost.blocks.push_back(id);
    }
  }
  Events events;
  const auto append = [&events](const auto& change) {  // One event holds kEventBlocksMax blocks, a large server more.
    for (std::span left(change.blocks); !left.empty(); left = left.subspan(std::min(left.size(), kEventBlocksMax))) {
      const auto some = left.first(std::min(left.size(), kEventBlocksMax));
      events.emplace_back(std::decay_t<decltype(change)>{.server = change.server, .blocks = {some.begin(), some.end()}});
    }
  };
  append(lost);
  append(added);
  if (delta.whole) judge_lineage(member, delta.changes, events);
  return events;
}

void Controller::handle(Instant, const StreamEnded& e, Actions& actions) {
  refused_.erase(e.stream);
  const auto stream = streams_.find(e.stream);
  if (stream == streams_.end()) return;
  const auto member = members_.find(stream->second);
  if (member != members_.end() && member->second.stream == e.stream) {
    member->second.stream = 0;  // Still a member until it is silent for long: a broken connection is no death.
    if (member->second.report.draining) {
      lose(stream->second, Say{false, "has drained and left"}, actions);
    } else {
      disconnected(stream->second, actions);
    }
  }
  streams_.erase(e.stream);
}

void Controller::lose(const std::string& name, const Say& why, Actions& actions) {
  const auto member = members_.find(name);
  CENOTE_CHECK(member != members_.end());
  actions.emplace_back(Say{why.warning, str_cat(role_name(member->second.report.role), " ", name, " ", why.text)});
  if (member->second.stream != 0) streams_.erase(member->second.stream);
  if (silence_.suspected(name)) ++suspects_version_;
  silence_.forget(name);
  if (member->second.report.role == Role::kMemory) leave(name);
  seen_by_.erase(name);
  lost_[name] = std::move(member->second.report);
  members_.erase(member);
  told_dirty_ = true;
}

bool Controller::holds_live(const std::string& server) const {
  const auto member = members_.find(server);
  return member != members_.end() && member->second.inventoried;
}

size_t Controller::live_replicas(const Digest& block) const {
  const auto state = catalogue_.blocks().find(block);
  if (state == catalogue_.blocks().end()) return 0;
  return static_cast<size_t>(std::count_if(state->second.servers.begin(), state->second.servers.end(), [this](const std::string& server) { return holds_live(server); }));
}

void Controller::handle(Instant, const ClusterAsked& e, Actions& actions) {
  ClusterStatus status{.cluster = options_.cluster, .members = {e.self}, .events = catalogue_.applied(), .held_because = catalogue_.held_because(), .tenants = tenant_statuses()};
  for (const auto& [name, member] : members_) {
    status.members.push_back(member.report);
    if (silence_.suspected(name)) status.members.back().notes.emplace_back("not heard just now; others are asked until it speaks again");
  }
  for (const auto& [name, report] : lost_) status.lost.push_back(report);
  status.repair = repair_.status(now_);
  fill_excluded(status);
  actions.emplace_back(ClusterReply{e.call, std::move(status)});
}

void Controller::handle(Instant now, const MemberDrainAsked& e, Actions& actions) {
  const auto member = members_.find(e.member);
  if (member == members_.end() || member->second.stream == 0) {
    std::vector<std::string> names;
    for (const auto& [name, other] : members_) names.push_back(name);
    actions.emplace_back(DoneReply{e.call, absl::NotFoundError(str_cat("no live member is named ", e.member, did_you_mean(e.member, names)))});
    return;
  }
  if (member->second.report.role == Role::kMemory) {
    leaving_[e.member] = Leaving{.stalled_at = now + kLeaveStalled, .cursor = {}};  // Anew if it was asked before: what was told may be lost.
    repair_due_ = true;
  } else {
    tell(now, member->second, DrainMember{}, actions);
  }
  actions.emplace_back(DoneReply{e.call, absl::OkStatus()});
}

}  // namespace cenote::node
