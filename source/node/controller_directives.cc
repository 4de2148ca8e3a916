// What members are told: assignments, views, drops, heartbeats.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "node/controller.h"

namespace cenote::node {

// Blocks that no revision needs and no deploy holds are to be dropped wherever they are.
void Controller::collect_garbage(Instant now) {
  if (!garbage_dirty_ || !settled_ || now < garbage_from_ || !catalogue_.held_because().empty()) return;
  garbage_dirty_ = false;
  for (const BlockRef& block : catalogue_.unreferenced()) {
    bool leased = false;
    for (const auto& [number, deploy] : deploys_) leased = leased || deploy.blocks.contains(block.id);
    if (leased) continue;
    for (const std::string& server : catalogue_.replicas(block.id)) {
      if (!holds_live(server)) continue;
      Member& member = members_.at(server);
      if (member.dropping.insert(block.id).second) member.dropping_changed = true;
    }
  }
}

policy::AssignView Controller::assign_view() const {
  policy::AssignView view{.catalogue = &catalogue_, .models = options_.device_models, .not_prefetched = catalogue_.evicted()};
  for (const auto& [name, member] : members_) {
    if (member.report.role == Role::kMemory && member.inventoried && !member.report.draining) view.servers.push_back(member.report.memory);
    if (member.report.role == Role::kAgent && !member.report.draining) {
      view.executors.insert(view.executors.end(), member.report.executors.begin(), member.report.executors.end());
    }
  }
  return view;
}

std::vector<std::string> Controller::devices_of(const Member& agent) const {
  const auto known = options_.agent_devices.find(agent.report.name);
  if (known != options_.agent_devices.end()) return known->second;
  std::vector<std::string> devices;
  for (const ExecutorReport& executor : agent.report.executors) devices.push_back(executor.device);
  return devices;
}

void Controller::tell(Instant now, Member& member, Directive directive, Actions& actions) {
  member.last_told = now;
  actions.emplace_back(SendDirective{member.stream, std::move(directive)});
}

void Controller::tell_memory(Instant now, Member& member, bool send_inventory, Actions& actions) {
  MemoryDirective directive{.version = ++member.directive_version, .drop = {member.dropping.begin(), member.dropping.end()}, .send_inventory = send_inventory};
  fill_copies(member, directive);
  member.copies_changed = member.dropping_changed = false;
  tell_lineage(member, directive);
  tell(now, member, std::move(directive), actions);
}

Duration Controller::replica_news_every() const {
  const auto agents = std::count_if(members_.begin(), members_.end(), [](const auto& member) { return member.second.report.role == Role::kAgent; });
  return std::clamp(kReplicaNewsPerBlock * static_cast<int64_t>(catalogue_.blocks().size()) * agents, kReplicaNews, kReplicaNewsMax);
}

void Controller::tell_news(Instant now, Member& member, News& news, Actions& actions) {
  if (member.report.role == Role::kAgent) {
    Assignment assignment = policy::make_assignment(news.view, member.report.name, devices_of(member));
    replicas_told_ = now;  // Also if it knows all: finding that out is what costs.
    if (member.assignment && policy::same_assignment(*member.assignment, assignment)) return;
    member.assignment = assignment;
    assignment.version = ++version_;
    for (const auto& [revision, until] : evict_until_) assignment.evict.push_back(revision);
    tell(now, member, std::move(assignment), actions);
  } else if (member.report.role == Role::kRouter) {
    if (!news.cluster) news.cluster = policy::make_cluster_view(news.view);
    if (member.view && policy::same_view(*member.view, *news.cluster)) return;
    member.view = *news.cluster;
    ClusterView sent = *news.cluster;
    sent.version = ++version_;
    tell(now, member, std::move(sent), actions);
  }
}

void Controller::tell_members(Instant now, Actions& actions) {
  if (replica_news_ && now >= replicas_told_ + replica_news_every()) told_dirty_ = true;
  if (settled_ && told_dirty_ && !news_left_) {  // Who was left comes before who would hear more.
    ++news_;
    told_dirty_ = replica_news_ = false;
  }
  std::optional<News> news;
  size_t told = 0;
  news_left_ = false;
  for (auto& [name, member] : members_) {
    if (member.stream == 0) continue;
    if (member.news_told != news_) {
      const size_t cost = member.report.role == Role::kAgent ? catalogue_.blocks().size() : 0;
      if (cost > 0 && told > 0 && told + cost > kToldPerStep) {
        news_left_ = true;
      } else {
        if (!news) news = News{.view = assign_view(), .cluster = {}};
        told += cost;
        member.news_told = news_;
        tell_news(now, member, *news, actions);
      }
    }
    if (member.dropping_changed || member.copies_changed) tell_memory(now, member, false, actions);
    // At once when it is settled which catalogue this is; how far it has come, with the beats.
    const bool beat = now >= member.last_told + kBeatInterval;
    if (member.lineage_known && (member.told_lineage != catalogue_.lineage() || (beat && member.told_sequence != sequence_))) {
      tell_memory(now, member, false, actions);
    } else if (beat) {
      tell(now, member, Heartbeat{}, actions);
    }
  }
}

}  // namespace cenote::node
