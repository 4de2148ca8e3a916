// message/member.h - reports that daemons send the controller, and what it tells them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "message/record.h"

namespace cenote {

enum class Role : uint8_t { kMemory = 1, kAgent = 2, kExecutor = 3, kController = 4, kRouter = 5, kSupervisor = 6 };
std::string_view role_name(Role role);

// How ready a revision is on a device. On the wire: append only.
enum class Readiness : uint8_t { kNone = 0, kLoading = 1, kCached = 2, kMapped = 3, kResident = 4, kFailed = 5 };

struct RevisionState {
  Digest revision;
  Readiness readiness = Readiness::kNone;
  std::string error;  // With kFailed: why.
};

struct ExecutorReport {
  std::string name;               // "agent-0/host:0"
  std::string device;             // "host:0", "emulated:1", "cuda:0"
  std::string address;            // host:port of its Inference service; empty while it starts.
  Incarnation incarnation = 0;    // 0 while it is down.
  int64_t pid = 0;
  uint64_t rss_bytes = 0;
  double cpu_seconds = 0;
  int64_t uptime_us = 0;
  uint32_t credits = 0;           // Requests it takes at once.
  uint32_t running = 0;           // Queued or running now.
  uint64_t served = 0;
  uint64_t restarts = 0;
  std::vector<RevisionState> revisions;
};

// What a memory server's blocks lie on. With a disk, MemoryServerInfo's capacity and use are the disk's, since that holds every block.
struct StorageReport {
  bool disk = false;
  uint64_t arena_capacity_bytes = 0;  // For blocks.
  uint64_t arena_used_bytes = 0;
  uint64_t read_back_bytes = 0;       // From disk into the arena, since the start; as the next two.
  uint64_t scrubbed_bytes = 0;        // Checked by the scrubber, copies in the arena and on disk counted apart.
  uint64_t corrupt_blocks = 0;        // Copies found bad: replaced, or reported as dropped.
  auto operator<=>(const StorageReport&) const = default;
};

// A copy that the controller ordered and that came to nothing.
struct CopyFailure {
  Digest block;
  std::string why;
  auto operator<=>(const CopyFailure&) const = default;
};

// What an agent saw of one memory server since its own start.
struct ServerSeen {
  std::string server;
  uint64_t reads = 0;             // That arrived.
  uint64_t bytes = 0;             // Of them,
  Duration read_time;             // and how long each took, summed.
  uint64_t failures = 0;          // Times that its reads failed or it fell silent.
  uint64_t corrupt_chunks = 0;
  auto operator<=>(const ServerSeen&) const = default;
};

// A replica that is to be looked at: chunks of it came wrong.
struct DoubtfulReplica {
  std::string server;
  Digest block;
  auto operator<=>(const DoubtfulReplica&) const = default;
};

// A daemon's heartbeat. Fields beyond the first block are filled by the roles they concern.
struct MemberReport {
  std::string name;
  Role role = Role::kMemory;
  Incarnation incarnation = 0;
  std::string address;            // host:port of its control service.
  int64_t pid = 0;
  uint64_t rss_bytes = 0;
  double cpu_seconds = 0;
  int64_t uptime_us = 0;
  bool draining = false;
  int64_t wall_clock_us = 0;      // When it was written, by its host's clock: for `cenote doctor`; nothing is decided by it.
  int64_t clock_ahead_us = 0;     // The controller adds: by how much that clock was ahead of its own, the report's way counted in.
  std::vector<std::string> notes; // Degradations worth showing, e.g. "huge pages: not available, using 4 KiB pages".

  // Memory servers.
  MemoryServerInfo memory;
  bool inventory = false;              // True: `held` is all it holds. False: `held` was added since the last report.
  std::vector<BlockRef> held;
  std::vector<Digest> dropped;         // Gone since the last report.
  uint64_t slabs_open = 0;
  uint64_t grants_live = 0;
  StorageReport storage;
  uint64_t lineage = 0;                // Of the catalogue that its blocks came under, as it was told last; 0: never told.
  uint64_t lineage_sequence = 0;
  std::vector<CopyFailure> copies_failed;     // Since the last report.
  std::vector<Digest> checked;                // Blocks that the controller wanted checked, and that were, since the last report.

  // Agents and memory servers that copied.
  std::vector<DoubtfulReplica> doubtful;      // Since the last report; some may be left out.

  // Agents.
  std::vector<ServerSeen> seen;
  uint64_t cache_capacity_bytes = 0;
  uint64_t cache_used_bytes = 0;
  uint64_t cache_pinned_bytes = 0;
  uint64_t fetched_bytes = 0;
  uint64_t integrity_failures = 0;
  std::vector<ExecutorReport> executors;

  // Routers.
  uint64_t outstanding = 0;
  uint64_t queued = 0;
  uint64_t routed = 0;
  uint64_t refused = 0;
  uint64_t retried = 0;

  // All: base/suspicion.h.
  uint64_t suspected = 0;              // Peers that fell silent while it waited for them.
  uint64_t stalls = 0;                 // Its own, of 50 ms and more.
  Duration stall_longest;
};

// One tag of one name.
struct TagView {
  std::string name;
  std::string tag;
  Digest revision;
};

// The controller's word to an agent: complete, replaces the previous one.
struct Assignment {
  uint64_t version = 0;
  std::vector<RevisionRecord> revisions;               // All that this agent's devices may serve.
  std::map<Digest, std::vector<std::string>> replicas; // Block -> names of memory servers holding it, preferred first.
  std::vector<MemoryServerInfo> memory_servers;        // Live ones.
  // Which revisions each device should have ready without being asked; in order of preference.
  std::map<std::string, std::vector<Digest>> prefetch; // Device name -> revisions.
  std::vector<Digest> evict;                           // Drop these from devices and cache now (once per version).
};

// The controller's word to a router: complete, replaces the previous one.
struct ClusterView {
  uint64_t version = 0;
  std::vector<TagView> tags;
  std::vector<Digest> revisions;                       // All deployed, also those without a tag.
  std::map<Digest, std::string> revision_names;
  std::vector<ExecutorReport> executors;               // Live ones.
  std::map<Digest, std::vector<std::string>> allowed;  // Revision -> executor names; absent: all executors.
};

}  // namespace cenote
