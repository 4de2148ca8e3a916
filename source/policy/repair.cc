#include "policy/repair.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

namespace cenote::policy {
namespace {

bool counts(Standing standing) { return standing == Standing::kSound || standing == Standing::kAway; }
bool readable(Standing standing) { return standing != Standing::kAway && standing != Standing::kGone; }

// A number for each server's failure domain: the index of the first server in it.
std::vector<uint32_t> domains_of(std::span<const RepairServer> servers) {
  std::vector<uint32_t> domains;
  std::map<std::string_view, uint32_t> first;
  for (uint32_t i = 0; i < servers.size(); ++i) {
    const std::string& name = servers[i].failure_domain;
    domains.push_back(name.empty() ? i : first.emplace(name, i).first->second);
  }
  return domains;
}

class Plan {
 public:
  Plan(std::span<const RepairServer> servers, const RepairLimits& limits) : servers_(servers.begin(), servers.end()), domains_(domains_of(servers)), limits_(limits) {}

  std::optional<uint32_t> target(const RepairBlock& block) const {
    std::set<uint32_t> used;
    for (const uint32_t holder : block.holders) {
      if (counts(servers_[holder].standing)) used.insert(domains_[holder]);
    }
    const uint64_t size = round_up(block.size_bytes, kBlockAlignBytes);
    std::optional<uint32_t> best;
    const auto rank = [&](uint32_t i) { return std::tuple(block.failed == i, used.contains(domains_[i]), UINT64_MAX - servers_[i].free_bytes); };
    for (uint32_t i = 0; i < servers_.size(); ++i) {
      const RepairServer& server = servers_[i];
      if (server.standing != Standing::kSound || !server.takes || server.free_bytes < size || !admits(server.copies_in, server.bytes_in, size)) continue;
      if (std::find(block.holders.begin(), block.holders.end(), i) != block.holders.end()) continue;
      if (!best || rank(i) < rank(*best)) best = i;
    }
    return best;
  }

  std::vector<uint32_t> sources(const RepairBlock& block) const {
    std::vector<uint32_t> sources;
    for (const uint32_t holder : block.holders) {
      if (readable(servers_[holder].standing)) sources.push_back(holder);
    }
    std::stable_sort(sources.begin(), sources.end(), [&](uint32_t a, uint32_t b) { return order(a) < order(b); });
    if (sources.size() > kRepairSourcesMax) sources.resize(kRepairSourcesMax);
    if (sources.empty() || !admits(servers_[sources[0]].copies_out, servers_[sources[0]].bytes_out, block.size_bytes)) return {};
    return sources;
  }

  void take(const RepairBlock& block, uint32_t target, uint32_t source) {
    ++servers_[target].copies_in;
    servers_[target].bytes_in += block.size_bytes;
    servers_[target].free_bytes -= round_up(block.size_bytes, kBlockAlignBytes);
    ++servers_[source].copies_out;
    servers_[source].bytes_out += block.size_bytes;
  }

 private:
  // One copy is always allowed: a limit below a block's size must not stop repair.
  bool admits(uint32_t copies, uint64_t bytes, uint64_t size) const {
    return copies == 0 || (copies < limits_.copies_per_server && bytes + size <= limits_.bytes_per_server);
  }
  std::tuple<int, uint32_t> order(uint32_t source) const {
    const Standing standing = servers_[source].standing;
    return {standing == Standing::kSound ? 0 : standing == Standing::kLeaving ? 1 : 2, servers_[source].copies_out};
  }

  std::vector<RepairServer> servers_;
  const std::vector<uint32_t> domains_;
  const RepairLimits& limits_;
};

}  // namespace

Replicas count_replicas(std::span<const uint32_t> holders, std::span<const RepairServer> servers) {
  Replicas replicas;
  for (const uint32_t holder : holders) {
    const Standing standing = servers[holder].standing;
    replicas.counted += counts(standing) ? 1 : 0;
    replicas.sound += standing == Standing::kSound ? 1 : 0;
    replicas.readable += readable(standing) ? 1 : 0;
  }
  return replicas;
}

uint32_t wanted_replicas(uint32_t replicas, std::span<const RepairServer> servers) {
  const auto there = std::count_if(servers.begin(), servers.end(), [](const RepairServer& server) { return counts(server.standing); });
  return std::min(replicas, static_cast<uint32_t>(there));
}

std::vector<RepairCopy> plan_copies(std::span<const RepairBlock> blocks, std::span<const RepairServer> servers, const RepairLimits& limits,
                                    uint32_t under_way) {
  std::vector<RepairCopy> copies;
  Plan plan(servers, limits);
  for (size_t i = 0; i < blocks.size() && under_way + copies.size() < limits.copies; ++i) {
    const std::optional<uint32_t> target = plan.target(blocks[i]);
    std::vector<uint32_t> sources = plan.sources(blocks[i]);
    if (!target || sources.empty()) continue;
    plan.take(blocks[i], *target, sources[0]);
    copies.push_back({.block = i, .target = *target, .sources = std::move(sources)});
  }
  return copies;
}

std::optional<uint32_t> choose_surplus(std::span<const uint32_t> holders, std::span<const RepairServer> servers, uint32_t replicas) {
  std::vector<uint32_t> sound;
  for (const uint32_t holder : holders) {
    if (servers[holder].standing == Standing::kSound && servers[holder].takes) sound.push_back(holder);  // Surely there, not only believed to be.
  }
  if (sound.size() <= std::max(replicas, 1u)) return std::nullopt;
  const std::vector<uint32_t> domains = domains_of(servers);
  const auto shares_domain = [&](uint32_t server) {
    return std::count_if(sound.begin(), sound.end(), [&](uint32_t other) { return domains[other] == domains[server]; }) > 1;
  };
  return *std::min_element(sound.begin(), sound.end(), [&](uint32_t a, uint32_t b) {
    return std::tuple(!shares_domain(a), servers[a].free_bytes) < std::tuple(!shares_domain(b), servers[b].free_bytes);
  });
}

}  // namespace cenote::policy
