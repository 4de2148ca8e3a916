#include "node/agent.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::node {

using namespace agent;  // NOLINT: this file speaks of nothing else.

Agent::Agent(AgentOptions options) : options_(std::move(options)), index_(options_.cache_bytes, options_.cache_words, options_.check_cached) {
  executors_.resize(options_.devices.size());
  for (Executor& executor : executors_) executor.spawn_at = Instant{};  // At the first step.
}

void Agent::step(Instant now, std::span<Event> events, std::vector<Action>& actions) {
  now_ = now;
  actions_ = &actions;
  awake();
  for (Event& event : events) std::visit([this](auto& e) { on(e); }, event);
  expire();
  watch_executors();
  watch_beats();
  // Room that came free serves who waits for it, urgent first.
  for (int round = 0; room_changed_ && round < 2; ++round) {
    room_changed_ = false;
    for (const bool urgent : {true, false}) {
      for (auto& [digest, revision] : revisions_) {
        const bool waits = std::any_of(revision.pending.begin(), revision.pending.end(), [&](const Pending& p) { return p.urgent == urgent; });
        if (waits && !revision.placed) advance(revision);
      }
    }
  }
  std::erase_if(revisions_, [](const auto& entry) {
    const Revision& revision = entry.second;
    return !revision.deployed && !revision.wanted() && !revision.placed && revision.job == 0;
  });
  actions_ = nullptr;
}

void Agent::on(AssignmentCame& event) {
  Assignment& assignment = event.assignment;
  if (assignment.memory_servers != servers_) {
    servers_ = std::move(assignment.memory_servers);
    actions_->push_back(SetServers{servers_});
  }
  replicas_ = std::move(assignment.replicas);
  prefetch_ = std::move(assignment.prefetch);
  std::set<Digest> deployed;
  for (RevisionRecord& record : assignment.revisions) {
    deployed.insert(record.digest);
    Revision& revision = revisions_[record.digest];
    revision.deployed = true;
    if (revision.record.digest.empty()) revision.record = std::move(record);  // A digest's record never changes.
  }
  for (auto& [digest, revision] : revisions_) {
    if (deployed.contains(digest) || !revision.deployed) continue;
    revision.deployed = false;
    refuse(revision, absl::NotFoundError(str_cat("revision ", digest.short_hex(), " is not deployed any more")), true);
    evict(revision);
  }
  if (evicted_version_ != assignment.version) {
    evicted_version_ = assignment.version;
    for (const Digest& digest : assignment.evict) {
      const auto found = revisions_.find(digest);
      if (found != revisions_.end()) evict(found->second);
    }
  }
  for (size_t device = 0; device < executors_.size(); ++device) tell_prefetch(device);
  // What is to be had ready again does not leave: holders that hear so keep it, and who asks for it would wait for them for ever.
  for (const auto& [device, wanted] : prefetch_) {
    for (const Digest& digest : wanted) {
      const auto found = revisions_.find(digest);
      if (found == revisions_.end() || !found->second.evicting || found->second.holders.empty()) continue;
      found->second.evicting = false;
      advance(found->second);
    }
  }
  // What was acquired a moment too early.
  for (auto unknown = unknown_.begin(); unknown != unknown_.end();) {
    const auto found = revisions_.find(unknown->first);
    if (found == revisions_.end() || !found->second.deployed) {  // One that is only on its way out is not fetched again.
      ++unknown;
      continue;
    }
    for (const Pending& pending : unknown->second) found->second.pending.push_back(pending);
    unknown = unknown_.erase(unknown);
    advance(found->second);
  }
}

void Agent::on(ExecutorSaid& event) {
  const StreamId stream = event.stream;
  if (const auto* report = std::get_if<ExecutorReport>(&event.message)) return on_report(stream, *report);
  const auto device = device_of(stream);
  if (!device) {
    actions_->push_back(CloseStream{stream, "an executor must report before it asks for anything"});
    return;
  }
  executors_[*device].heard_at = now_;
  heard(*device, event.message);
  if (const auto* acquire = std::get_if<Acquire>(&event.message)) {
    on_acquire(stream, *acquire);
  } else if (const auto* want = std::get_if<Want>(&event.message)) {
    on_want(*want);
  } else if (const auto* release = std::get_if<ReleaseRevision>(&event.message)) {
    on_release(stream, release->revision);
  }
}

void Agent::on(DrainBegan&) {
  if (draining_) return;
  draining_ = true;
  for (Executor& executor : executors_) {
    executor.spawn_at.reset();
    if (executor.stream != 0) tell(executor.stream, DrainExecutor{});
  }
}

void Agent::evict(Revision& revision) {
  revision.evicting = true;
  for (const StreamId stream : revision.holders) tell(stream, EvictRevision{revision.record.digest});
  for (const Executor& executor : executors_) {
    if (has_copy(executor, revision)) tell(executor.stream, EvictRevision{revision.record.digest});
  }
  refuse(revision, absl::CancelledError(str_cat(revision.record.name, " is being evicted")), false);  // Requests get it anew.
  settle(revision);
}

// Holds it in its device's memory and gave the cache back. One that acquires it just now means to compute with it.
bool Agent::has_copy(const Executor& executor, const Revision& revision) {
  if (executor.stream == 0 || revision.holders.contains(executor.stream)) return false;
  const auto of_executor = [&](const Pending& pending) { return pending.stream == executor.stream; };
  if (std::any_of(revision.pending.begin(), revision.pending.end(), of_executor)) return false;
  return std::any_of(executor.report.revisions.begin(), executor.report.revisions.end(), [&](const RevisionState& state) {
    return state.revision == revision.record.digest && state.readiness != Readiness::kNone;
  });
}

AgentCounts Agent::counts() const {
  return {.cache_capacity_bytes = index_.size_bytes(), .cache_used_bytes = index_.used_bytes(), .cache_pinned_bytes = index_.pinned_bytes()};
}

}  // namespace cenote::node
