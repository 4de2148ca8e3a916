#include "policy/assign.h"

#include <algorithm>
#include <tuple>

namespace cenote::policy {
namespace {

// "agent-0/host:0" -> "host:0"
std::string_view device_of(std::string_view executor) {
  const size_t slash = executor.rfind('/');
  return slash == std::string_view::npos ? executor : executor.substr(slash + 1);
}

// FNV-1a (Fowler, Noll, Vo), 32 bits: only spreads, need not be strong.
uint32_t spread(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// Tagged revisions, newest first; of equals by digest.
std::vector<Digest> prefetch_order(const AssignView& view) {
  std::set<Digest> tagged;
  for (const auto& [name, tags] : view.catalogue->tags()) {
    for (const auto& [tag, state] : tags) tagged.insert(state.revision);
  }
  std::vector<std::pair<int64_t, Digest>> order;
  for (const Digest& revision : tagged) {
    if (view.not_prefetched.contains(revision)) continue;
    int64_t newest = 0;
    for (const auto& [name, created_us] : view.catalogue->revisions().at(revision).names) newest = std::max(newest, created_us);
    order.emplace_back(-newest, revision);
  }
  std::sort(order.begin(), order.end());
  std::vector<Digest> revisions;
  for (const auto& [created, revision] : order) revisions.push_back(revision);
  return revisions;
}

}  // namespace

bool device_admitted(std::string_view filter, std::string_view device) {
  if (filter.empty()) return true;
  const std::string_view kind = device.substr(0, device.find(':'));
  while (!filter.empty()) {
    const size_t comma = filter.find(',');
    std::string_view entry = filter.substr(0, comma);
    filter = comma == std::string_view::npos ? std::string_view{} : filter.substr(comma + 1);
    while (!entry.empty() && entry.front() == ' ') entry.remove_prefix(1);
    while (!entry.empty() && entry.back() == ' ') entry.remove_suffix(1);
    if (entry == device || entry == kind) return true;
  }
  return false;
}

bool may_serve(const DeviceModels& models, const std::string& executor, const RevisionEntry& entry) {
  if (!device_admitted(entry.record.device_filter, device_of(executor))) return false;
  const auto names = models.find(executor);
  if (names == models.end() || names->second.empty()) return true;
  return std::any_of(names->second.begin(), names->second.end(), [&](const std::string& name) { return entry.names.contains(name); });
}

Assignment make_assignment(const AssignView& view, const std::string& agent, std::span<const std::string> devices) {
  Assignment assignment;
  std::set<std::string> live;
  for (MemoryServerInfo server : view.servers) {
    server.used_bytes = 0;
    live.insert(server.name);
    assignment.memory_servers.push_back(std::move(server));
  }
  std::sort(assignment.memory_servers.begin(), assignment.memory_servers.end());

  const auto executor_of = [&](const std::string& device) { return agent + "/" + device; };
  for (const auto& listed : view.catalogue->revisions()) {
    const RevisionEntry& entry = listed.second;
    const bool served = std::any_of(devices.begin(), devices.end(), [&](const std::string& device) { return may_serve(view.models, executor_of(device), entry); });
    if (!served) continue;
    assignment.revisions.push_back(entry.record);
    for (const BlockRef& block : distinct_blocks(entry.record)) {
      if (assignment.replicas.contains(block.id)) continue;
      std::vector<std::string> holders = view.catalogue->replicas(block.id);
      std::erase_if(holders, [&](const std::string& server) { return !live.contains(server); });
      // Which replica is asked first varies by block and agent, so that all links carry their share.
      if (!holders.empty()) {
        const size_t first = (block.id.bytes[0] + spread(agent)) % holders.size();
        std::rotate(holders.begin(), holders.begin() + static_cast<ptrdiff_t>(first), holders.end());
      }
      assignment.replicas.emplace(block.id, std::move(holders));
    }
  }
  const std::vector<Digest> order = prefetch_order(view);
  for (const std::string& device : devices) {
    std::vector<Digest>& wanted = assignment.prefetch[device];
    for (const Digest& revision : order) {
      if (may_serve(view.models, executor_of(device), view.catalogue->revisions().at(revision))) wanted.push_back(revision);
    }
  }
  return assignment;
}

ClusterView make_cluster_view(const AssignView& view) {
  ClusterView result;
  result.tags = view.catalogue->tag_views();
  for (const ExecutorReport& executor : view.executors) result.executors.push_back(without_load(executor));
  std::sort(result.executors.begin(), result.executors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const auto& [digest, entry] : view.catalogue->revisions()) {
    result.revisions.push_back(digest);
    result.revision_names.emplace(digest, entry.record.name);
    std::vector<std::string> allowed;
    for (const ExecutorReport& executor : result.executors) {
      if (may_serve(view.models, executor.name, entry)) allowed.push_back(executor.name);
    }
    if (allowed.size() != result.executors.size()) result.allowed.emplace(digest, std::move(allowed));
  }
  return result;
}

ExecutorReport without_load(ExecutorReport executor) {
  executor.rss_bytes = 0;
  executor.cpu_seconds = 0;
  executor.running = 0;
  executor.served = 0;
  return executor;
}

bool same_executor(const ExecutorReport& a, const ExecutorReport& b) {
  const auto fixed = [](const ExecutorReport& e) {
    return std::tie(e.name, e.device, e.address, e.incarnation, e.pid, e.rss_bytes, e.cpu_seconds, e.credits, e.running, e.served, e.restarts);
  };
  return fixed(a) == fixed(b) &&
         std::equal(a.revisions.begin(), a.revisions.end(), b.revisions.begin(), b.revisions.end(), [](const auto& x, const auto& y) {
           return std::tie(x.revision, x.readiness, x.error) == std::tie(y.revision, y.readiness, y.error);
         });
}

bool same_assignment(const Assignment& a, const Assignment& b) {
  // A digest is of the manifest, which names all blocks: records of one digest differ in their name at most.
  const auto same_record = [](const RevisionRecord& x, const RevisionRecord& y) {
    return std::tie(x.digest, x.name, x.created_us, x.device_filter) == std::tie(y.digest, y.name, y.created_us, y.device_filter);
  };
  return a.memory_servers == b.memory_servers && a.replicas == b.replicas && a.prefetch == b.prefetch &&
         std::equal(a.revisions.begin(), a.revisions.end(), b.revisions.begin(), b.revisions.end(), same_record);
}

bool same_view(const ClusterView& a, const ClusterView& b) {
  return std::equal(a.tags.begin(), a.tags.end(), b.tags.begin(), b.tags.end(),
                    [](const TagView& x, const TagView& y) { return std::tie(x.name, x.tag, x.revision) == std::tie(y.name, y.tag, y.revision); }) &&
         a.revisions == b.revisions && a.revision_names == b.revision_names && a.allowed == b.allowed &&
         std::equal(a.executors.begin(), a.executors.end(), b.executors.begin(), b.executors.end(), same_executor);
}

}  // namespace cenote::policy
