#include "wire/convert_member.h"

#include <algorithm>

#include "base/status.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"
#include "wire/convert_record.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

constexpr int64_t kWallClockMaxUs = int64_t{1} << 53;  // Year 2255.

void to_proto(const StorageReport& storage, v1::StorageReport* proto) {
  proto->set_disk(storage.disk);
  proto->set_arena_capacity_bytes(storage.arena_capacity_bytes);
  proto->set_arena_used_bytes(storage.arena_used_bytes);
  proto->set_read_back_bytes(storage.read_back_bytes);
  proto->set_scrubbed_bytes(storage.scrubbed_bytes);
  proto->set_corrupt_blocks(storage.corrupt_blocks);
}

StorageReport from_proto(const v1::StorageReport& proto) {
  return {.disk = proto.disk(), .arena_capacity_bytes = proto.arena_capacity_bytes(), .arena_used_bytes = proto.arena_used_bytes(),
          .read_back_bytes = proto.read_back_bytes(), .scrubbed_bytes = proto.scrubbed_bytes(), .corrupt_blocks = proto.corrupt_blocks()};
}

absl::StatusOr<Role> role_of(uint32_t value) {
  if (value < static_cast<uint32_t>(Role::kMemory) || value > static_cast<uint32_t>(Role::kSupervisor)) {
    return absl::InvalidArgumentError(str_cat("role: ", value, ", this version knows 1 to 6"));
  }
  return static_cast<Role>(value);
}

}  // namespace

void to_proto(const RevisionState& state, v1::RevisionState* proto) {
  proto->set_revision(digest_bytes(state.revision));
  proto->set_readiness(static_cast<uint32_t>(state.readiness));
  proto->set_error(utf8_text(state.error, kTextBytesMax));
}

absl::StatusOr<RevisionState> from_proto(const v1::RevisionState& proto) {
  RevisionState state{.error = utf8_text(proto.error(), kTextBytesMax)};
  CENOTE_ASSIGN_OR_RETURN(state.revision, digest_of("revision", proto.revision()));
  if (proto.readiness() > static_cast<uint32_t>(Readiness::kFailed)) {
    return absl::InvalidArgumentError(str_cat("readiness: ", proto.readiness(), ", this version knows 0 to 5"));
  }
  state.readiness = static_cast<Readiness>(proto.readiness());
  return state;
}

void to_proto(const ExecutorReport& report, v1::ExecutorReport* proto) {
  proto->set_name(report.name);
  proto->set_device(report.device);
  proto->set_address(report.address);
  proto->set_incarnation(report.incarnation);
  proto->set_pid(report.pid);
  proto->set_rss_bytes(report.rss_bytes);
  proto->set_cpu_seconds(report.cpu_seconds);
  proto->set_uptime_us(report.uptime_us);
  proto->set_credits(report.credits);
  proto->set_running(report.running);
  proto->set_served(report.served);
  proto->set_restarts(report.restarts);
  write_list(report.revisions, proto->mutable_revisions());
}

absl::StatusOr<ExecutorReport> from_proto(const v1::ExecutorReport& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("executor name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("device", proto.device(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("executor address", proto.address(), kNameBytesMax));
  ExecutorReport report{.name = proto.name(), .device = proto.device(), .address = proto.address(),
                        .incarnation = proto.incarnation(), .pid = proto.pid(), .rss_bytes = proto.rss_bytes(),
                        .cpu_seconds = proto.cpu_seconds(), .uptime_us = proto.uptime_us(), .credits = proto.credits(),
                        .running = proto.running(), .served = proto.served(), .restarts = proto.restarts()};
  CENOTE_RETURN_IF_ERROR(read_list("executor revisions", proto.revisions(), kRevisionsMax, &report.revisions));
  return report;
}

void to_proto(const MemberReport& report, v1::MemberReport* proto) {
  proto->set_name(report.name);
  proto->set_role(static_cast<uint32_t>(report.role));
  proto->set_incarnation(report.incarnation);
  proto->set_address(report.address);
  proto->set_pid(report.pid);
  proto->set_rss_bytes(report.rss_bytes);
  proto->set_cpu_seconds(report.cpu_seconds);
  proto->set_uptime_us(report.uptime_us);
  proto->set_draining(report.draining);
  for (const std::string& note : report.notes) proto->add_notes(utf8_text(note, kTextBytesMax));
  if (!report.memory.name.empty()) to_proto(report.memory, proto->mutable_memory());
  proto->set_inventory(report.inventory);
  write_list(report.held, proto->mutable_held());
  write_digests(report.dropped, proto->mutable_dropped());
  proto->set_slabs_open(report.slabs_open);
  proto->set_grants_live(report.grants_live);
  if (report.storage != StorageReport{}) to_proto(report.storage, proto->mutable_storage());
  proto->set_cache_capacity_bytes(report.cache_capacity_bytes);
  proto->set_cache_used_bytes(report.cache_used_bytes);
  proto->set_cache_pinned_bytes(report.cache_pinned_bytes);
  proto->set_fetched_bytes(report.fetched_bytes);
  proto->set_integrity_failures(report.integrity_failures);
  write_list(report.executors, proto->mutable_executors());
  proto->set_outstanding(report.outstanding);
  proto->set_queued(report.queued);
  proto->set_routed(report.routed);
  proto->set_refused(report.refused);
  proto->set_retried(report.retried);
  write_list(report.copies_failed, proto->mutable_copies_failed());
  write_digests(report.checked, proto->mutable_checked());
  write_list(report.doubtful, proto->mutable_doubtful());
  write_list(report.seen, proto->mutable_seen());
  proto->set_suspected(report.suspected);
  proto->set_stalls(report.stalls);
  proto->set_stall_longest_us(report.stall_longest.us());
  proto->set_wall_clock_us(report.wall_clock_us);
  proto->set_clock_ahead_us(report.clock_ahead_us);
  proto->set_lineage(report.lineage);
  proto->set_lineage_sequence(report.lineage_sequence);
}

absl::StatusOr<MemberReport> from_proto(const v1::MemberReport& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("member name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("member address", proto.address(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_count("notes", proto.notes_size(), kNotesMax));
  MemberReport report{.name = proto.name(), .incarnation = proto.incarnation(), .address = proto.address(), .pid = proto.pid(),
                      .rss_bytes = proto.rss_bytes(), .cpu_seconds = proto.cpu_seconds(), .uptime_us = proto.uptime_us(),
                      .draining = proto.draining(), .wall_clock_us = std::clamp<int64_t>(proto.wall_clock_us(), 0, kWallClockMaxUs),
                      .clock_ahead_us = proto.clock_ahead_us(), .inventory = proto.inventory(), .slabs_open = proto.slabs_open(),
                      .grants_live = proto.grants_live(), .storage = from_proto(proto.storage()), .lineage = proto.lineage(),
                      .lineage_sequence = proto.lineage_sequence(), .cache_capacity_bytes = proto.cache_capacity_bytes(),
                      .cache_used_bytes = proto.cache_used_bytes(), .cache_pinned_bytes = proto.cache_pinned_bytes(),
                      .fetched_bytes = proto.fetched_bytes(), .integrity_failures = proto.integrity_failures(),
                      .outstanding = proto.outstanding(), .queued = proto.queued(), .routed = proto.routed(),
                      .refused = proto.refused(), .retried = proto.retried(),
                      .suspected = proto.suspected(), .stalls = proto.stalls()};
  CENOTE_ASSIGN_OR_RETURN(report.stall_longest, duration_of("longest stall", proto.stall_longest_us()));
  CENOTE_ASSIGN_OR_RETURN(report.role, role_of(proto.role()));
  for (const std::string& note : proto.notes()) report.notes.push_back(utf8_text(note, kTextBytesMax));
  if (proto.has_memory()) {
    CENOTE_ASSIGN_OR_RETURN(report.memory, from_proto(proto.memory()));
  }
  CENOTE_RETURN_IF_ERROR(read_list("held", proto.held(), kReplicasMax, &report.held));
  CENOTE_RETURN_IF_ERROR(read_digests("dropped", proto.dropped(), kReplicasMax, &report.dropped));
  CENOTE_RETURN_IF_ERROR(read_list("executors", proto.executors(), kDevicesMax, &report.executors));
  CENOTE_RETURN_IF_ERROR(read_list("failed copies", proto.copies_failed(), kCopiesMax, &report.copies_failed));
  CENOTE_RETURN_IF_ERROR(read_digests("checked", proto.checked(), kCopiesMax, &report.checked));
  CENOTE_RETURN_IF_ERROR(read_list("doubtful", proto.doubtful(), kCopiesMax, &report.doubtful));
  CENOTE_RETURN_IF_ERROR(read_list("seen", proto.seen(), kMembersMax, &report.seen));
  return report;
}

void to_proto(const TagView& tag, v1::TagView* proto) {
  proto->set_name(tag.name);
  proto->set_tag(tag.tag);
  proto->set_revision(digest_bytes(tag.revision));
}

absl::StatusOr<TagView> from_proto(const v1::TagView& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("tagged name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("tag", proto.tag(), kNameBytesMax));
  TagView tag{.name = proto.name(), .tag = proto.tag()};
  CENOTE_ASSIGN_OR_RETURN(tag.revision, digest_of("tagged revision", proto.revision()));
  return tag;
}

void to_proto(const Assignment& assignment, v1::Assignment* proto) {
  proto->set_version(assignment.version);
  write_list(assignment.revisions, proto->mutable_revisions());
  write_list(assignment.memory_servers, proto->mutable_memory_servers());
  std::map<std::string_view, uint32_t> index;
  for (const MemoryServerInfo& server : assignment.memory_servers) index.emplace(server.name, index.size());
  for (const auto& [block, servers] : assignment.replicas) {
    v1::ReplicaEntry* entry = proto->add_replicas();
    entry->set_block(digest_bytes(block));
    for (const std::string& name : servers) {
      if (const auto found = index.find(name); found != index.end()) entry->add_servers(found->second);
    }
  }
  for (const auto& [device, revisions] : assignment.prefetch) {
    v1::DevicePrefetch* entry = proto->add_prefetch();
    entry->set_device(device);
    write_digests(revisions, entry->mutable_revisions());
  }
  write_digests(assignment.evict, proto->mutable_evict());
}

absl::StatusOr<Assignment> from_proto(const v1::Assignment& proto) {
  Assignment assignment{.version = proto.version()};
  CENOTE_RETURN_IF_ERROR(read_list("assigned revisions", proto.revisions(), kRevisionsMax, &assignment.revisions));
  CENOTE_RETURN_IF_ERROR(read_list("memory servers", proto.memory_servers(), kMembersMax, &assignment.memory_servers));
  CENOTE_RETURN_IF_ERROR(check_count("replicas", proto.replicas_size(), kReplicasMax));
  for (const v1::ReplicaEntry& entry : proto.replicas()) {
    CENOTE_ASSIGN_OR_RETURN(const Digest block, digest_of("replicated block", entry.block()));
    CENOTE_RETURN_IF_ERROR(check_count("servers of a block", entry.servers_size(), kServersPerBlockMax));
    std::vector<std::string>& servers = assignment.replicas[block];
    for (const uint32_t server : entry.servers()) {
      if (server >= assignment.memory_servers.size()) {
        return absl::InvalidArgumentError(str_cat("replica of block ", block.short_hex(), ": server ", server, " of ",
                                                  assignment.memory_servers.size()));
      }
      servers.push_back(assignment.memory_servers[server].name);
    }
  }
  CENOTE_RETURN_IF_ERROR(check_count("prefetch", proto.prefetch_size(), kDevicesMax));
  for (const v1::DevicePrefetch& entry : proto.prefetch()) {
    CENOTE_RETURN_IF_ERROR(check_text("prefetch device", entry.device(), kNameBytesMax));
    CENOTE_RETURN_IF_ERROR(
        read_digests("prefetch", entry.revisions(), kRevisionsMax, &assignment.prefetch[entry.device()]));
  }
  CENOTE_RETURN_IF_ERROR(read_digests("evict", proto.evict(), kRevisionsMax, &assignment.evict));
  return assignment;
}

void to_proto(const ClusterView& view, v1::ClusterView* proto) {
  proto->set_version(view.version);
  write_list(view.tags, proto->mutable_tags());
  for (const Digest& revision : view.revisions) {
    v1::NamedRevision* entry = proto->add_revisions();
    entry->set_revision(digest_bytes(revision));
    if (const auto name = view.revision_names.find(revision); name != view.revision_names.end()) entry->set_name(name->second);
  }
  write_list(view.executors, proto->mutable_executors());
  for (const auto& [revision, executors] : view.allowed) {
    v1::AllowedEntry* entry = proto->add_allowed();
    entry->set_revision(digest_bytes(revision));
    write_names(executors, entry->mutable_executors());
  }
}

absl::StatusOr<ClusterView> from_proto(const v1::ClusterView& proto) {
  ClusterView view{.version = proto.version()};
  CENOTE_RETURN_IF_ERROR(read_list("tags", proto.tags(), kRevisionsMax, &view.tags));
  CENOTE_RETURN_IF_ERROR(check_count("revisions", proto.revisions_size(), kRevisionsMax));
  for (const v1::NamedRevision& entry : proto.revisions()) {
    CENOTE_ASSIGN_OR_RETURN(const Digest revision, digest_of("revision", entry.revision()));
    CENOTE_RETURN_IF_ERROR(check_text("revision name", entry.name(), kNameBytesMax));
    view.revisions.push_back(revision);
    if (!entry.name().empty()) view.revision_names[revision] = entry.name();
  }
  CENOTE_RETURN_IF_ERROR(read_list("executors", proto.executors(), kMembersMax, &view.executors));
  CENOTE_RETURN_IF_ERROR(check_count("allowed", proto.allowed_size(), kRevisionsMax));
  for (const v1::AllowedEntry& entry : proto.allowed()) {
    CENOTE_ASSIGN_OR_RETURN(const Digest revision, digest_of("allowed revision", entry.revision()));
    CENOTE_RETURN_IF_ERROR(read_names("allowed executors", entry.executors(), kMembersMax, &view.allowed[revision]));
  }
  return view;
}

void to_proto(const Directive& directive, v1::Directive* proto) {
  struct Write {
    v1::Directive* proto;
    void operator()(const Assignment& assignment) { to_proto(assignment, proto->mutable_assignment()); }
    void operator()(const ClusterView& view) { to_proto(view, proto->mutable_view()); }
    void operator()(const MemoryDirective& memory) { to_proto(memory, proto->mutable_memory()); }
    void operator()(const Heartbeat&) { proto->mutable_heartbeat(); }
    void operator()(const DrainMember&) { proto->mutable_drain(); }
    void operator()(const Refused& refused) { to_proto(refused.status, proto->mutable_refused()); }
    void operator()(const Suspects& suspects) { write_names(suspects.names, proto->mutable_suspects()->mutable_names()); }
  };
  std::visit(Write{proto}, directive);
}

absl::StatusOr<Directive> from_proto(const v1::Directive& proto) {
  switch (proto.kind_case()) {
    case v1::Directive::kAssignment: {
      CENOTE_ASSIGN_OR_RETURN(Assignment assignment, from_proto(proto.assignment()));
      return Directive(std::move(assignment));
    }
    case v1::Directive::kView: {
      CENOTE_ASSIGN_OR_RETURN(ClusterView view, from_proto(proto.view()));
      return Directive(std::move(view));
    }
    case v1::Directive::kMemory: {
      CENOTE_ASSIGN_OR_RETURN(MemoryDirective memory, from_proto(proto.memory()));
      return Directive(std::move(memory));
    }
    case v1::Directive::kHeartbeat: return Directive(Heartbeat{});
    case v1::Directive::kDrain: return Directive(DrainMember{});
    case v1::Directive::kRefused: return Directive(Refused{from_proto(proto.refused())});
    case v1::Directive::kSuspects: {
      Suspects suspects;
      CENOTE_RETURN_IF_ERROR(read_names("suspects", proto.suspects().names(), kMembersMax, &suspects.names));
      return Directive(std::move(suspects));
    }
    case v1::Directive::KIND_NOT_SET: break;
  }
  return absl::InvalidArgumentError("directive of a kind that this version does not know");
}

}  // namespace cenote::wire
