// Health of memory servers: what agents and the servers themselves say is summed over a moment, judged (policy/health.h), and followed by those
// who ask (Suspects), place (begin) and repair.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "node/controller.h"

namespace cenote::node {
namespace {

constexpr size_t kSamples = static_cast<size_t>(policy::HealthLimits::kLookedAt.ns / Controller::kHealthRound.ns);

uint64_t risen(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }

}  // namespace

// Counts of an agent rise from its start on.
void Controller::note_seen(const MemberReport& report) {
  auto& [incarnation, before] = seen_by_[report.name];
  const bool first = std::exchange(incarnation, report.incarnation) != report.incarnation;  // When that was, nobody knows here.
  std::map<std::string, ServerSeen> last = std::exchange(before, {});
  for (const ServerSeen& seen : report.seen) {
    before.emplace(seen.server, seen);
    if (first) continue;
    const ServerSeen& old = last[seen.server];
    if (seen == old) continue;
    policy::ServerSample& sample = sample_of(seen.server);
    sample.reads += risen(old.reads, seen.reads);
    sample.bytes += risen(old.bytes, seen.bytes);
    sample.read_time = sample.read_time + std::max(Duration{}, seen.read_time - old.read_time);
    sample.failures += risen(old.failures, seen.failures);
  }
}

void Controller::note_corrupt(const MemberReport& before, const MemberReport& now) {
  if (before.incarnation != now.incarnation || before.storage.corrupt_blocks >= now.storage.corrupt_blocks) return;
  sample_of(now.name).corrupt += now.storage.corrupt_blocks - before.storage.corrupt_blocks;
}

void Controller::note_return(const std::string& server) { ++sample_of(server).returns; }

bool Controller::excluded(const std::string& server) const {
  const auto health = health_.find(server);
  return health != health_.end() && health->second.trouble != policy::Trouble::kNone;
}

void Controller::judge_health(Instant now, Actions& actions) {
  if (!settled_ || now < health_at_) return;
  health_at_ = now + kHealthRound;
  std::map<std::string, policy::HealthServer> servers;
  for (const auto& [name, health] : health_) servers[name].last = health;
  for (const auto& [name, member] : members_) {
    if (member.report.role == Role::kMemory) servers[name].there = true;
  }
  for (const auto& samples : samples_) {
    for (const auto& [name, sample] : samples) {
      const auto server = servers.find(name);
      if (server == servers.end()) continue;
      policy::ServerSample& sum = server->second.lately;
      sum.reads += sample.reads;
      sum.bytes += sample.bytes;
      sum.read_time = sum.read_time + sample.read_time;
      sum.failures += sample.failures;
      sum.corrupt += sample.corrupt;
      sum.returns += sample.returns;
    }
  }
  samples_.emplace_back();
  if (samples_.size() > kSamples) samples_.pop_front();
  std::vector<policy::HealthServer> view;
  for (const auto& [name, server] : servers) view.push_back(server);
  const std::vector<policy::Health> judged = policy::judge_health(now, view, options_.health);
  size_t next = 0;
  for (const auto& [name, server] : servers) {
    const policy::Health& health = judged[next++];
    if (health.times > 0) health_[name] = health;
    else health_.erase(name);
    if (health.trouble == server.last.trouble) continue;
    ++suspects_version_;
    repair_due_ = true;
    actions.emplace_back(health.trouble == policy::Trouble::kNone ? Say{false, str_cat("memory server ", name, " is taken back")}
                                                                  : Say{true, str_cat("memory server ", name, " is excluded: ", health.reason, "; others are asked first, and its blocks get replicas elsewhere")});
  }
}

void Controller::fill_excluded(ClusterStatus& status) const {
  for (const auto& [name, health] : health_) {
    if (health.trouble != policy::Trouble::kNone) status.excluded.push_back({.server = name, .reason = health.reason, .since = now_ - health.since});
  }
}

}  // namespace cenote::node
