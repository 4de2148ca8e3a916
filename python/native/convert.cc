#include "convert.h"

#include <pybind11/stl.h>

#include "raise.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

const char* readiness_name(Readiness readiness) {
  switch (readiness) {
    case Readiness::kNone: return "none";
    case Readiness::kLoading: return "loading";
    case Readiness::kCached: return "cached";
    case Readiness::kMapped: return "mapped";
    case Readiness::kResident: return "resident";
    case Readiness::kFailed: return "failed";
  }
  return "unknown";
}

const char* temperature_name(Temperature temperature) {
  switch (temperature) {
    case Temperature::kUnknown: return "unknown";
    case Temperature::kCold: return "cold";
    case Temperature::kCached: return "cached";
    case Temperature::kResident: return "resident";
  }
  return "unknown";
}

template <typename T>
py::list each(const std::vector<T>& items) {
  py::list list;
  for (const T& item : items) list.append(to_dict(item));
  return list;
}

}  // namespace

py::dict to_dict(const RevisionState& state) {
  return py::dict("revision"_a = state.revision.hex(), "readiness"_a = readiness_name(state.readiness), "error"_a = state.error);
}

py::dict to_dict(const ExecutorReport& executor) {
  return py::dict("name"_a = executor.name, "device"_a = executor.device, "address"_a = executor.address,
                  "incarnation"_a = executor.incarnation, "pid"_a = executor.pid, "rss_bytes"_a = executor.rss_bytes,
                  "cpu_seconds"_a = executor.cpu_seconds, "uptime_s"_a = static_cast<double>(executor.uptime_us) * 1e-6,
                  "credits"_a = executor.credits, "running"_a = executor.running,
                  "served"_a = executor.served, "restarts"_a = executor.restarts, "revisions"_a = each(executor.revisions));
}

py::dict to_dict(const MemoryServerInfo& server) {
  return py::dict("name"_a = server.name, "control_address"_a = server.control_address,
                  "fabric_provider"_a = server.fabric_provider, "fabric_address"_a = py::bytes(server.fabric_address),
                  "incarnation"_a = server.incarnation, "capacity_bytes"_a = server.capacity_bytes,
                  "used_bytes"_a = server.used_bytes);
}

py::dict to_dict(const RevisionRecord& record) {
  return py::dict("digest"_a = record.digest.hex(), "name"_a = record.name, "manifest_bytes"_a = record.manifest_bytes,
                  "manifest_blocks"_a = to_list(record.manifest_blocks), "blocks"_a = to_list(record.blocks),
                  "file_blocks"_a = to_list(record.file_blocks), "weight_bytes"_a = record.weight_bytes,
                  "created_us"_a = record.created_us, "device_filter"_a = record.device_filter,
                  "label"_a = record.label.id.empty() ? py::object(py::none()) : py::object(py::make_tuple(record.label.id.hex(), record.label.size_bytes)));
}

py::dict to_dict(const MemberReport& member) {
  py::dict dict("name"_a = member.name, "role"_a = std::string(role_name(member.role)), "incarnation"_a = member.incarnation,
                "address"_a = member.address, "pid"_a = member.pid, "rss_bytes"_a = member.rss_bytes,
                "cpu_seconds"_a = member.cpu_seconds, "uptime_s"_a = static_cast<double>(member.uptime_us) * 1e-6,
                "draining"_a = member.draining, "wall_clock_us"_a = member.wall_clock_us,
                "clock_ahead_us"_a = member.clock_ahead_us, "notes"_a = member.notes, "executors"_a = each(member.executors),
                "suspected"_a = member.suspected, "stalls"_a = member.stalls, "stall_longest_ms"_a = member.stall_longest.ms());
  if (member.role == Role::kMemory) {
    dict["memory"] = to_dict(member.memory);
    dict["slabs_open"] = member.slabs_open;
    dict["grants_live"] = member.grants_live;
    dict["storage"] = py::dict("disk"_a = member.storage.disk, "arena_capacity_bytes"_a = member.storage.arena_capacity_bytes,
                               "arena_used_bytes"_a = member.storage.arena_used_bytes, "read_back_bytes"_a = member.storage.read_back_bytes,
                               "scrubbed_bytes"_a = member.storage.scrubbed_bytes, "corrupt_blocks"_a = member.storage.corrupt_blocks);
  } else if (member.role == Role::kAgent) {
    dict["cache"] = py::dict("capacity_bytes"_a = member.cache_capacity_bytes, "used_bytes"_a = member.cache_used_bytes,
                             "pinned_bytes"_a = member.cache_pinned_bytes);
    dict["fetched_bytes"] = member.fetched_bytes;
    dict["integrity_failures"] = member.integrity_failures;
  } else if (member.role == Role::kRouter) {
    dict["outstanding"] = member.outstanding;
    dict["queued"] = member.queued;
    dict["routed"] = member.routed;
    dict["refused"] = member.refused;
    dict["retried"] = member.retried;
  }
  return dict;
}

py::dict to_dict(const TenantStatus& tenant) {
  return py::dict("name"_a = tenant.name, "used_bytes"_a = tenant.used_bytes, "pool_bytes_max"_a = tenant.pool_bytes_max,
                  "models"_a = tenant.models, "models_max"_a = tenant.models_max);
}

py::dict to_dict(const RepairStatus& repair) {
  return py::dict("short_blocks"_a = repair.short_blocks, "short_bytes"_a = repair.short_bytes, "lost_blocks"_a = repair.lost_blocks, "copying"_a = repair.copying,
                  "copied_blocks"_a = repair.copied_blocks, "copied_bytes"_a = repair.copied_bytes, "bytes_per_second"_a = repair.bytes_per_second);
}

py::dict to_dict(const ExcludedServer& server) {
  return py::dict("server"_a = server.server, "reason"_a = server.reason, "since_s"_a = server.since.seconds());
}

py::dict to_dict(const ClusterStatus& status) {
  return py::dict("cluster"_a = status.cluster, "members"_a = each(status.members), "lost"_a = each(status.lost),
                  "events"_a = status.events, "held_because"_a = status.held_because, "tenants"_a = each(status.tenants),
                  "repair"_a = to_dict(status.repair), "excluded"_a = each(status.excluded));
}

py::dict to_dict(const ModelInfo& model) {
  return py::dict("name"_a = model.name, "tags"_a = model.tags, "record"_a = to_dict(model.record),
                  "shared_bytes"_a = model.shared_bytes, "replicas_min"_a = model.replicas_min, "ready"_a = each(model.ready),
                  "devices"_a = model.devices, "tenant"_a = model.tenant);
}

py::dict to_dict(const DeployResult& result) {
  return py::dict("digest"_a = result.digest.hex(), "name"_a = result.name, "tag"_a = result.tag, "already_existed"_a = result.already_existed);
}

py::dict to_dict(const DeployPlan& plan) {
  py::list send;
  for (const BlockTargets& target : plan.send) send.append(py::make_tuple(target.block, target.servers));
  return py::dict("deploy"_a = plan.deploy, "lease_s"_a = plan.lease.seconds(), "send"_a = send, "servers"_a = each(plan.servers),
                  "done"_a = plan.done ? py::object(to_dict(*plan.done)) : py::object(py::none()));
}

py::dict to_dict(const Waterfall& w) {
  return py::dict("temperature"_a = temperature_name(w.temperature), "queue_us"_a = w.queue_us, "resolve_us"_a = w.resolve_us,
                  "network_us"_a = w.network_us, "verify_us"_a = w.verify_us, "copy_us"_a = w.copy_us, "wait_us"_a = w.wait_us,
                  "compute_us"_a = w.compute_us, "total_us"_a = w.total_us, "router_us"_a = w.router_us,
                  "network_bytes"_a = w.network_bytes, "copied_bytes"_a = w.copied_bytes);
}

py::list to_list(const std::vector<BlockRef>& blocks) {
  py::list list;
  for (const BlockRef& block : blocks) list.append(py::make_tuple(block.id.hex(), block.size_bytes));
  return list;
}

Digest to_digest(const std::string& hex) { return check(Digest::from_hex(hex)); }

std::vector<BlockRef> to_blocks(const py::sequence& blocks) {
  std::vector<BlockRef> result;
  result.reserve(blocks.size());
  for (const py::handle block : blocks) {
    const auto pair = py::cast<py::sequence>(block);
    result.push_back({to_digest(py::cast<std::string>(pair[0])), py::cast<uint32_t>(pair[1])});
  }
  return result;
}

MemoryServerInfo to_memory_server(const py::dict& info) {
  return {.name = py::cast<std::string>(info["name"]),
          .control_address = py::cast<std::string>(info["control_address"]),
          .fabric_provider = py::cast<std::string>(info["fabric_provider"]),
          .fabric_address = py::cast<std::string>(info["fabric_address"]),
          .incarnation = py::cast<uint64_t>(info["incarnation"]),
          .capacity_bytes = py::cast<uint64_t>(info["capacity_bytes"]),
          .used_bytes = py::cast<uint64_t>(info["used_bytes"])};
}

}  // namespace cenote::native
