// policy/place.h - which memory servers a revision's blocks go to at deploy. A function of its arguments.
//
// The four ways are DistMind's sharding strategies (IEEE/ACM Transactions on Networking 32(3), 2024,
// DOI 10.1109/TNET.2024.3355010) on content-addressed blocks:
//   per-app     all blocks of a revision on one server, the one with most free bytes
//   horizontal  groups of consecutive blocks in turn
//   vertical    one contiguous share of the bytes for each server
//   hybrid      blocks in turn, so that every group is spread over all servers
// Further replicas go to the following servers in the same order, in failure domains that the block is not
// yet in where there are any. A server that is full is passed over for the next one that has room.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace cenote {

enum class PlacementPolicy : uint8_t { kPerApp, kHorizontal, kVertical, kHybrid };
// "per-app", "horizontal", "vertical", "hybrid"; kInvalidArgument otherwise.
absl::StatusOr<PlacementPolicy> placement_policy_from_name(std::string_view name);

struct PlaceServer {
  std::string name;
  uint64_t free_bytes = 0;     // As blocks need it: a block takes its size rounded up to 4 KiB.
  std::string failure_domain;  // Empty: its own.
};

struct PlaceBlock {
  uint32_t size_bytes = 0;
  std::vector<uint32_t>
      held_by;  // Indices of servers that hold it already: they count as replicas and cost nothing.
};

struct PlaceOptions {
  PlacementPolicy policy = PlacementPolicy::kHybrid;
  uint32_t replicas = 2;           // Wanted, at least 1; no more than servers are made.
  uint64_t group_bytes = 8 << 20;  // For horizontal: consecutive blocks up to this together.
  uint32_t rotation = 0;  // Which server begins; e.g. a hash of the name, so that small revisions spread.
};

// For each block the servers it is to be written to, in order of preference; those that hold it are not
// repeated. Fewer replicas than asked for where there are fewer servers. kResourceExhausted says what is
// needed and free; kUnavailable: no server at all; kInvalidArgument: no replicas, a size of 0, an
// index out of range.
absl::StatusOr<std::vector<std::vector<uint32_t>>> place_blocks(std::span<const PlaceBlock> blocks,
                                                                std::span<const PlaceServer> servers,
                                                                const PlaceOptions& options);

}  // namespace cenote
