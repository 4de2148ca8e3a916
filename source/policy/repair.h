// policy/repair.h - which blocks get another replica, where and from whom, and which replica too many goes. Functions of their arguments.
//
// A replica counts on a server that is sound, or away (silent or restarting) for less than the time allowed for coming back. What a server
// that is leaving or shunned holds does not count, but is read where nothing better is. New replicas go to failure domains that have none
// yet where there is room in one, there to the server with most room; they are read from whoever is read least.
//
// Requests come before prefetch, and prefetch before repair: a repair takes what its limits leave it, which is little of what a server's
// network and memory can do, and the memory server paces the copies it was told to make (memory.repair_rate).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"

namespace cenote::policy {

enum class Standing : uint8_t {
  kSound,    // Serves.
  kAway,     // Does not answer, and is expected back with what it held.
  kLeaving,  // Serves until it has been drained.
  kShunned,  // Serves badly: asked last.
  kGone,     // Does not answer.
};

struct RepairServer {
  std::string name;
  Standing standing = Standing::kGone;
  bool takes = false;           // New blocks.
  uint64_t free_bytes = 0;      // Copies under way to it taken off.
  std::string failure_domain;   // Empty: its own.
  uint32_t copies_in = 0;       // Under way to it; from it.
  uint32_t copies_out = 0;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
};

struct RepairBlock {
  uint32_t size_bytes = 0;
  std::vector<uint32_t> holders;       // Indices of servers.
  std::optional<uint32_t> failed;      // The server that could not take it just now: chosen last.
};

// What may be under way at once. A server that copies has work for a while at any sensible rate, and a lost one's copies are few.
struct RepairLimits {
  uint32_t copies_per_server = 64;            // To one; and from one.
  uint64_t bytes_per_server = 64 * kMiB;
  uint32_t copies = 1024;                     // Over all.
};
inline constexpr size_t kRepairSourcesMax = 3;

struct Replicas {
  uint32_t counted = 0;
  uint32_t sound = 0;      // Among those counted.
  uint32_t readable = 0;   // Counted or not.
};
Replicas count_replicas(std::span<const uint32_t> holders, std::span<const RepairServer> servers);

// How many replicas there can be: `replicas`, or as many as there are servers that count.
uint32_t wanted_replicas(uint32_t replicas, std::span<const RepairServer> servers);

struct RepairCopy {
  size_t block = 0;                  // Index.
  uint32_t target = 0;
  std::vector<uint32_t> sources;     // To be tried in this order; 1 to kRepairSourcesMax.
};
// At most one copy for each block, in the order given (the most urgent first); no limit is passed, `under_way` counted in. A block for which
// there is no server with room, or no source, or neither within the limits, gets none.
std::vector<RepairCopy> plan_copies(std::span<const RepairBlock> blocks, std::span<const RepairServer> servers, const RepairLimits& limits,
                                    uint32_t under_way);

// Of more than `replicas` sound holders that take blocks just now, the one whose replica goes: the rest is in as many failure domains as can be, and it is the one with
// least room. Empty: there are not too many.
std::optional<uint32_t> choose_surplus(std::span<const uint32_t> holders, std::span<const RepairServer> servers, uint32_t replicas);

}  // namespace cenote::policy
