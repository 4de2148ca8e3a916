// message/control.h - what people's tools ask of the controller, what it answers, and what it tells its members.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "message/member.h"
#include "message/record.h"

namespace cenote {

// ---- controller -> member, on the Join stream; each replaces the one before it -----------------------------------------
// A replica to be made: read from one of these servers, in this order.
struct CopyOrder {
  BlockRef block;
  std::vector<std::string> sources;
  auto operator<=>(const CopyOrder&) const = default;
};
struct MemoryDirective {
  uint64_t version = 0;
  std::vector<Digest> drop;     // Delete these blocks (no revision needs them here).
  bool send_inventory = false;  // Answer with a report whose `held` is complete.
  uint64_t lineage = 0;         // Remember these two and report them (MemberReport). 0: nothing to remember.
  uint64_t lineage_sequence = 0;
  std::vector<CopyOrder> copy;            // All that is to be copied here and was not yet reported as held or failed.
  std::vector<MemoryServerInfo> sources;  // Of `copy`.
  std::vector<Digest> check;              // All that is to be checked against its id and was not yet reported as checked.
};
struct Heartbeat {};            // The controller lives.
struct DrainMember {};          // Take no more work, end when idle.
struct Refused {                // The stream ends after it, e.g. another member has this name.
  absl::Status status;
};
struct Suspects {               // Members that the controller does not hear just now, and memory servers that serve badly; complete. Others are asked first.
  std::vector<std::string> names;
};
using Directive = std::variant<Assignment, ClusterView, MemoryDirective, Heartbeat, DrainMember, Refused, Suspects>;

// ---- deploy -------------------------------------------------------------------------------------------------------------
struct DeployRequest {
  std::string name;
  std::string tag;                // Empty: "latest".
  bool update = false;            // The name may exist.
  std::vector<BlockRef> blocks;   // Weights, files and manifest; distinct.
  std::string client;             // Who deploys, for people: "user@host pid 123".
  std::string operation;          // Random bytes of who deploys; the same for each try. Empty: none.
  uint64_t cache_bytes = 0;       // What a host's cache must hold to serve it: weights and manifest, blocks padded. 0: not said.
};
struct BlockTargets {
  uint32_t block = 0;                  // Index into DeployRequest::blocks.
  std::vector<std::string> servers;    // Names of the memory servers to write it to.
};
struct DeployResult {
  Digest digest;
  std::string name;
  std::string tag;
  bool already_existed = false;
};
struct DeployPlan {
  uint64_t deploy = 0;
  Duration lease;                      // Renew before it ends, or the deploy is forgotten.
  std::vector<BlockTargets> send;      // A block the pool has enough replicas of is absent.
  std::vector<MemoryServerInfo> servers;
  std::optional<DeployResult> done;    // The operation was committed before; there is nothing else in the plan.
};

// ---- names --------------------------------------------------------------------------------------------------------------
struct TagMove {
  std::string name;
  std::string tag;
  Digest revision;
  Digest previous;                     // Empty: it had none.
};
struct Removal {
  std::vector<Digest> revisions;
  uint64_t freed_bytes = 0;
};

// ---- what there is ------------------------------------------------------------------------------------------------------
struct ModelInfo {
  std::string name;
  RevisionRecord record;               // Block lists only if asked for.
  std::vector<std::string> tags;
  uint64_t shared_bytes = 0;           // Also used by other revisions.
  uint32_t replicas_min = 0;
  std::vector<RevisionState> ready;    // One per device, in the order of `devices`.
  std::vector<std::string> devices;    // That may serve it, or still have something of it.
  std::string tenant;                  // Whose the name is.
};
// What of the pool a tenant has: blocks that its models and deploys under way need, each once whatever shares or replicates it.
struct TenantStatus {
  std::string name;
  uint64_t used_bytes = 0;
  uint64_t pool_bytes_max = 0;         // 0: no limit; as the next.
  uint64_t models = 0;                 // Names.
  uint64_t models_max = 0;
};
// How many replicas are missing, and what is done about it.
struct RepairStatus {
  uint64_t short_blocks = 0;           // Have fewer replicas than wanted, and can be copied;
  uint64_t short_bytes = 0;            // so much is to be copied.
  uint64_t lost_blocks = 0;            // No server that is there holds them.
  uint64_t copying = 0;                // Copies under way.
  uint64_t copied_blocks = 0;          // Since the controller started, as the next.
  uint64_t copied_bytes = 0;
  uint64_t bytes_per_second = 0;       // Of the last 10 s.
  auto operator<=>(const RepairStatus&) const = default;
};
// A memory server that is asked last and takes no new blocks.
struct ExcludedServer {
  std::string server;
  std::string reason;                  // For people: "slow: 40 MB/s, others 1200 MB/s".
  Duration since;                      // So long ago.
  auto operator<=>(const ExcludedServer&) const = default;
};
struct ClusterStatus {
  std::string cluster;
  std::vector<MemberReport> members;   // The controller itself included.
  std::vector<MemberReport> lost;      // Seen before, silent now; last report.
  uint64_t events = 0;                 // Applied to the catalogue.
  std::string held_because;            // Why memory servers keep what no revision needs. Empty: they do not.
  std::vector<TenantStatus> tenants;   // Of the settings and of the catalogue, by name; empty where nobody named one.
  RepairStatus repair;
  std::vector<ExcludedServer> excluded;
};

// What memory servers hold and the catalogue does not need: what a lost catalogue's revisions are found in.
struct Unclaimed {
  std::vector<BlockRef> labels;        // Blocks that may be labels (catalog/label.h), by their size.
  uint64_t blocks = 0;                 // All of them, on live servers.
  uint64_t bytes = 0;
  std::vector<std::string> absent;     // Memory servers of the settings or the catalogue that are not live.
  std::string held_because;
};
// A run of the catalogue's stored events, encoded (catalog/events.h).
struct EventPage {
  std::string cluster;
  uint64_t first = 0;                  // Sequence of the first of `events`.
  uint64_t last = 0;                   // Of the last that the store has: the end is reached when the page reaches it.
  std::vector<std::string> events;
};

// ---- memory servers, beside Grant and SlabInfo of record.h --------------------------------------------------------------
struct SealResult {
  uint64_t sealed_bytes = 0;
  uint64_t deduplicated_bytes = 0;     // Already there.
};

}  // namespace cenote
