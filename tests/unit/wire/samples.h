// One filled example of every message struct that crosses processes, for round trips, golden bytes and fuzz seeds.
#pragma once

#include "message/control.h"
#include "message/infer.h"
#include "message/link.h"
#include "message/member.h"
#include "message/record.h"
#include "wire/convert_infer.h"
#include "wire/convert_record.h"

namespace cenote::wire {

inline Digest sample_digest(uint8_t n) {
  Digest d;
  for (size_t i = 0; i < d.bytes.size(); ++i) d.bytes[i] = static_cast<uint8_t>(n + i);
  return d;
}
inline BlockRef sample_block(uint8_t n) { return {sample_digest(n), n * 4096u}; }
inline Tensor sample_tensor() {
  return {.name = "x", .dtype = DType::kF32, .shape = {1, 3}, .bytes = std::string("\0\0\0\0\0\0\x80?\0\0\0@", 12)};
}
inline InferRequest sample_request() {
  return {.id = {.high = 1, .low = 2}, .model = "bert:latest", .revision = sample_digest(3), .budget = Duration::from_ms(1500),
          .inputs = {sample_tensor()}, .payload_bytes = 12, .by_ticket = false};
}
inline Waterfall sample_waterfall() {
  return {.temperature = Temperature::kCold, .queue_us = 1, .resolve_us = 2, .network_us = 3, .verify_us = 4, .copy_us = 5, .wait_us = 6,
          .compute_us = 7, .total_us = 8, .router_us = 9, .network_bytes = 10, .copied_bytes = 11};
}
inline InferReply sample_reply() {
  return {.id = {.high = 1, .low = 2}, .status = absl::UnavailableError("weights"), .outputs = {sample_tensor()},
          .revision = sample_digest(3), .executor = "agent-0/host:0", .waterfall = sample_waterfall()};
}
inline Ticket sample_ticket() {
  return {.id = {.high = 1, .low = 2}, .executor_address = "127.0.0.1:7730", .executor_incarnation = 77, .revision = sample_digest(3),
          .expires_in = Duration::from_seconds(10)};
}
inline RevisionRecord sample_record() {
  return {.digest = sample_digest(3), .name = "bert", .manifest_bytes = 4000, .manifest_blocks = {sample_block(1)},
          .blocks = {sample_block(2), sample_block(3)}, .file_blocks = {sample_block(4)}, .weight_bytes = 20480,
          .created_us = 1'700'000'000'000'000, .device_filter = "host:0", .label = sample_block(5)};
}
inline MemoryServerInfo sample_server(const std::string& name) {
  return {.name = name, .control_address = "127.0.0.1:7710", .fabric_provider = "tcp;ofi_rxm", .fabric_address = std::string("\x02\0\x1e\x1f", 4),
          .incarnation = 5, .capacity_bytes = 1 << 30, .used_bytes = 1 << 20};
}
inline Grant sample_grant() {
  return {.incarnation = 5, .region_key = 6, .region_base = 7, .duration = Duration::from_seconds(10),
          .blocks = {{.id = sample_digest(2), .offset_bytes = 4096, .size_bytes = 8192}}, .missing = {sample_digest(9)}};
}
inline SlabInfo sample_slab() {
  return {.slab = 3, .incarnation = 5, .region_key = 6, .region_base = 7, .size_bytes = 1 << 22, .duration = Duration::from_seconds(60),
          .fabric_provider = "tcp;ofi_rxm", .fabric_address = "abc"};
}
inline ExecutorReport sample_executor() {
  return {.name = "agent-0/host:0", .device = "host:0", .address = "127.0.0.1:7730", .incarnation = 77, .pid = 1234, .rss_bytes = 1 << 28,
          .cpu_seconds = 1.5, .uptime_us = 13, .credits = 4, .running = 1, .served = 99, .restarts = 2,
          .revisions = {{.revision = sample_digest(3), .readiness = Readiness::kFailed, .error = "operator aten::foo"}}};
}
inline MemberReport sample_member() {
  return {.name = "agent-0", .role = Role::kAgent, .incarnation = 5, .address = "127.0.0.1:7720", .pid = 12, .rss_bytes = 13,
          .cpu_seconds = 0.25, .uptime_us = 14, .draining = true, .wall_clock_us = 1'700'000'000'000'000, .clock_ahead_us = -15,
          .notes = {"huge pages: not available"}, .memory = sample_server("memory-0"),
          .inventory = true, .held = {sample_block(2)}, .dropped = {sample_digest(8)}, .slabs_open = 1, .grants_live = 2,
          .storage = {.disk = true, .arena_capacity_bytes = 40, .arena_used_bytes = 41, .read_back_bytes = 42, .scrubbed_bytes = 43, .corrupt_blocks = 44}, .lineage = 77, .lineage_sequence = 13,
          .copies_failed = {{.block = sample_digest(9), .why = "no room"}}, .checked = {sample_digest(6)}, .doubtful = {{.server = "memory-1", .block = sample_digest(5)}},
          .seen = {{.server = "memory-0", .reads = 1, .bytes = 2, .read_time = Duration::from_ms(3), .failures = 4, .corrupt_chunks = 5}},
          .cache_capacity_bytes = 3, .cache_used_bytes = 4, .cache_pinned_bytes = 5, .fetched_bytes = 6, .integrity_failures = 7,
          .executors = {sample_executor()}, .outstanding = 8, .queued = 9, .routed = 10, .refused = 11, .retried = 12,
          .suspected = 13, .stalls = 14, .stall_longest = Duration::from_ms(15)};
}
inline Assignment sample_assignment() {
  return {.version = 4, .revisions = {sample_record()},
          .replicas = {{sample_digest(2), {"memory-1", "memory-0"}}, {sample_digest(3), {"memory-0"}}},
          .memory_servers = {sample_server("memory-0"), sample_server("memory-1")},
          .prefetch = {{"host:0", {sample_digest(3)}}, {"host:1", {}}}, .evict = {sample_digest(7)}};
}
inline ClusterView sample_view() {
  return {.version = 5, .tags = {{"bert", "latest", sample_digest(3)}}, .revisions = {sample_digest(3), sample_digest(4)},
          .revision_names = {{sample_digest(3), "bert"}}, .executors = {sample_executor()},
          .allowed = {{sample_digest(3), {"agent-0/host:0"}}, {sample_digest(4), {}}}};
}
inline DeployRequest sample_deploy() {
  return {.name = "bert", .tag = "v1", .update = true, .blocks = {sample_block(1), sample_block(2)}, .client = "me@host", .operation = "0123456789abcdef", .cache_bytes = 4096};
}
inline DeployPlan sample_plan() {
  return {.deploy = 3, .lease = Duration::from_seconds(60), .send = {{.block = 1, .servers = {"memory-0"}}}, .servers = {sample_server("memory-0")},
          .done = DeployResult{.digest = sample_digest(3), .name = "bert", .tag = "v1"}};
}
inline Unclaimed sample_unclaimed() {
  return {.labels = {sample_block(5)}, .blocks = 9, .bytes = 10, .absent = {"memory-1"}, .held_because = "restored"};
}
inline ModelInfo sample_model() {
  return {.name = "bert", .record = sample_record(), .tags = {"latest"}, .shared_bytes = 5, .replicas_min = 2,
          .ready = {{.revision = sample_digest(3), .readiness = Readiness::kMapped}}, .devices = {"agent-0/host:0"}, .tenant = "vision"};
}
inline Acquired sample_acquired() {
  return {.ticket = 8, .status = absl::OkStatus(), .manifest_bytes = 4000, .manifest = {{.offset_bytes = 0, .size_bytes = 4096, .word = 1}},
          .weights = {{.offset_bytes = 4096, .size_bytes = 8192, .word = 2}}, .cached_bytes = 8192};
}
inline FetchDone sample_fetch_done() {
  return {.revision = sample_digest(3), .status = absl::DataLossError("chunk"), .network = Duration::from_ms(60),
          .verify = Duration::from_ms(8), .bytes = 20480, .refetched = 1};
}

}  // namespace cenote::wire
