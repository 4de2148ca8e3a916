#include "policy/place.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/status.h"
#include "base/text.h"
#include "base/units.h"

namespace cenote {
namespace {

constexpr struct {
  std::string_view name;
  PlacementPolicy policy;
} kNames[] = {{"per-app", PlacementPolicy::kPerApp},
              {"horizontal", PlacementPolicy::kHorizontal},
              {"vertical", PlacementPolicy::kVertical},
              {"hybrid", PlacementPolicy::kHybrid}};

uint64_t cost(const PlaceBlock& block) {
  return round_up(block.size_bytes, kBlockAlignBytes);
}

// Which server each block would go to first if all had room, as a position in the turn.
std::vector<size_t> first_choices(std::span<const PlaceBlock> blocks, size_t servers,
                                  const PlaceOptions& options) {
  std::vector<size_t> choice(blocks.size(), 0);
  uint64_t total = 0;
  for (const PlaceBlock& block : blocks) total += block.size_bytes;
  uint64_t before = 0, in_group = 0;
  size_t group = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (in_group > 0 && in_group + blocks[i].size_bytes > options.group_bytes) ++group, in_group = 0;
    in_group += blocks[i].size_bytes;
    switch (options.policy) {
      case PlacementPolicy::kPerApp:
        choice[i] = 0;
        break;
      case PlacementPolicy::kHorizontal:
        choice[i] = group % servers;
        break;
      // The share that the block's first byte is in.
      case PlacementPolicy::kVertical:
        choice[i] = static_cast<size_t>(static_cast<unsigned __int128>(before) * servers / total);
        break;
      case PlacementPolicy::kHybrid:
        choice[i] = i % servers;
        break;
    }
    before += blocks[i].size_bytes;
  }
  return choice;
}

class Placement {
 public:
  Placement(std::span<const PlaceServer> servers, const PlaceOptions& options)
      : servers_(servers), options_(options), turn_(servers.size()) {
    for (const PlaceServer& server : servers) free_.push_back(server.free_bytes);
    std::iota(turn_.begin(), turn_.end(), size_t{0});
    std::rotate(turn_.begin(), turn_.begin() + options.rotation % turn_.size(), turn_.end());
    if (options.policy == PlacementPolicy::kPerApp) {
      // The emptiest first: whole revisions are lumpy.
      std::stable_sort(turn_.begin(), turn_.end(), [&](size_t a, size_t b) { return free_[a] > free_[b]; });
    }
  }

  // Servers for what `block` still lacks; fewer than it lacks means there is no room.
  std::vector<uint32_t> place(const PlaceBlock& block, size_t first) {
    std::vector<uint32_t> chosen;
    std::set<size_t> taken(block.held_by.begin(), block.held_by.end());
    std::set<std::string> domains;
    for (size_t server : taken) domains.insert(domain(server));
    const size_t wanted = std::min<size_t>(options_.replicas, servers_.size());
    while (taken.size() < wanted) {
      size_t server = find(block, first, taken, &domains);
      if (server == servers_.size()) server = find(block, first, taken, nullptr);
      if (server == servers_.size()) break;
      taken.insert(server);
      domains.insert(domain(server));
      free_[server] -= cost(block);
      chosen.push_back(static_cast<uint32_t>(server));
    }
    short_ = short_ || taken.size() < wanted;
    return chosen;
  }

  bool short_of_room() const { return short_; }

 private:
  std::string domain(size_t server) const {
    const PlaceServer& s = servers_[server];
    return s.failure_domain.empty() ? str_cat("server ", server) : str_cat("domain ", s.failure_domain);
  }

  // The first in the turn with room, not yet taken, outside of `avoid`; servers_.size() if none.
  size_t find(const PlaceBlock& block, size_t first, const std::set<size_t>& taken,
              const std::set<std::string>* avoid) const {
    for (size_t step = 0; step < turn_.size(); ++step) {
      const size_t server = turn_[(first + step) % turn_.size()];
      if (taken.contains(server) || free_[server] < cost(block)) continue;
      if (avoid == nullptr || !avoid->contains(domain(server))) return server;
    }
    return servers_.size();
  }

  std::span<const PlaceServer> servers_;
  const PlaceOptions& options_;
  std::vector<size_t> turn_;
  std::vector<uint64_t> free_;
  bool short_ = false;
};

absl::Status check(std::span<const PlaceBlock> blocks, std::span<const PlaceServer> servers,
                   const PlaceOptions& options) {
  if (servers.empty())
    return absl::UnavailableError(
        "placement: no memory server is there just now: wait until one has reported (`cenote status`), or start one");
  if (options.replicas == 0) return absl::InvalidArgumentError("placement: 0 replicas, at least 1");
  if (options.group_bytes == 0) return absl::InvalidArgumentError("placement: groups of 0 bytes, at least 1");
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].size_bytes == 0)
      return absl::InvalidArgumentError(str_cat("placement: block ", i, " has 0 bytes"));
    for (uint32_t holder : blocks[i].held_by) {
      if (holder >= servers.size())
        return absl::InvalidArgumentError(
            str_cat("placement: block ", i, " is held by server ", holder, " of ", servers.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status no_room(std::span<const PlaceBlock> blocks, std::span<const PlaceServer> servers,
                     const PlaceOptions& options) {
  uint64_t needed = 0, free = 0, largest = 0;
  for (const PlaceBlock& block : blocks) {
    const size_t wanted = std::min<size_t>(options.replicas, servers.size());
    const size_t held = std::set<uint32_t>(block.held_by.begin(), block.held_by.end()).size();
    needed += wanted > held ? cost(block) * (wanted - held) : 0;
  }
  for (const PlaceServer& server : servers) {
    free += server.free_bytes;
    largest = std::max(largest, server.free_bytes);
  }
  return absl::ResourceExhaustedError(
      str_cat("memory servers: ", format_bytes(needed), " needed for ",
              std::min<size_t>(options.replicas, servers.size()), " replicas of new blocks, ",
              format_bytes(free), " free on ", servers.size(), " servers, ", format_bytes(largest),
              " on the emptiest: remove models, lower placement.replicas, or raise memory.capacity"));
}

}  // namespace

absl::StatusOr<PlacementPolicy> placement_policy_from_name(std::string_view name) {
  for (const auto& known : kNames) {
    if (known.name == name) return known.policy;
  }
  return absl::InvalidArgumentError(
      str_cat("placement policy '", name, "': use per-app, horizontal, vertical or hybrid"));
}

absl::StatusOr<std::vector<std::vector<uint32_t>>> place_blocks(std::span<const PlaceBlock> blocks,
                                                                std::span<const PlaceServer> servers,
                                                                const PlaceOptions& options) {
  CENOTE_RETURN_IF_ERROR(check(blocks, servers, options));
  const std::vector<size_t> choices = first_choices(blocks, servers.size(), options);
  Placement placement(servers, options);
  std::vector<std::vector<uint32_t>> placed;
  for (size_t i = 0; i < blocks.size(); ++i) placed.push_back(placement.place(blocks[i], choices[i]));
  if (placement.short_of_room()) return no_room(blocks, servers, options);
  return placed;
}

}  // namespace cenote
