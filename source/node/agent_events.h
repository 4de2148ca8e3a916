// node/agent_events.h - what an agent is told and what it does. Streams are executors' Attach calls; devices are indices into
// AgentOptions::devices.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/manifest.h"
#include "message/fetch.h"
#include "message/link.h"
#include "message/member.h"

namespace cenote::node::agent {

using StreamId = uint64_t;

// ---- events -------------------------------------------------------------------------------------------------------------
struct AssignmentCame { Assignment assignment; };
struct ExecutorSaid { StreamId stream = 0; ExecutorUp message; };
struct StreamEnded { StreamId stream = 0; };
struct ExecutorSpawned { size_t device = 0; absl::Status status; int64_t pid = 0; };   // Answers SpawnExecutor.
struct ExecutorExited { size_t device = 0; int64_t pid = 0; std::string how; };
// Answers CheckManifest: section 1 of a manifest whose bytes hash to the revision's digest.
struct ManifestChecked { Digest revision; absl::StatusOr<std::vector<BlockEntry>> blocks; };
struct FetchEnded { FetchResult result; };
struct DrainBegan {};
using Event = std::variant<AssignmentCame, ExecutorSaid, StreamEnded, ExecutorSpawned, ExecutorExited, ManifestChecked, FetchEnded, DrainBegan>;

// ---- actions, to be carried out in order --------------------------------------------------------------------------------
struct Tell { StreamId stream = 0; ExecutorDown message; };
struct CloseStream { StreamId stream = 0; std::string why; };
struct SpawnExecutor { size_t device = 0; };
struct KillExecutor { size_t device = 0; std::string why; };       // SIGKILL; ExecutorExited follows.
struct SetServers { std::vector<MemoryServerInfo> servers; };
struct RetireWord { uint32_t word = 0; };
struct ResetWord { uint32_t word = 0; };
// `hashed`: the manifest is one block, so the fetch has checked it against the digest already.
struct CheckManifest { Digest revision; uint64_t manifest_bytes = 0; std::vector<CacheExtent> extents; bool hashed = false; };
struct StartFetch { FetchJob job; };
struct PromoteFetch { uint64_t job = 0; };
struct CancelFetch { uint64_t job = 0; };
struct WantBlock { Digest block; uint32_t chunks = 0; };
struct Noticed { size_t device = 0; bool silent = false; };        // For the log: an executor fell silent, or speaks again.
using Action = std::variant<Tell, CloseStream, SpawnExecutor, KillExecutor, SetServers, RetireWord, ResetWord, CheckManifest, StartFetch,
                            PromoteFetch, CancelFetch, WantBlock, Noticed>;

}  // namespace cenote::node::agent
