#include "wire/convert_control.h"

#include "base/status.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"
#include "wire/status.h"

namespace cenote::wire {

void to_proto(const DeployRequest& request, v1::BeginDeployRequest* proto) {
  proto->set_name(request.name);
  proto->set_tag(request.tag);
  proto->set_update(request.update);
  write_list(request.blocks, proto->mutable_blocks());
  proto->set_client(request.client);
  proto->set_operation(request.operation);
  proto->set_cache_bytes(request.cache_bytes);
}

absl::StatusOr<DeployRequest> from_proto(const v1::BeginDeployRequest& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("tag", proto.tag(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("client", proto.client(), kNameBytesMax));
  DeployRequest request{.name = proto.name(), .tag = proto.tag(), .update = proto.update(), .client = proto.client(), .cache_bytes = proto.cache_bytes()};
  CENOTE_ASSIGN_OR_RETURN(request.operation, operation_of(proto.operation()));
  CENOTE_RETURN_IF_ERROR(read_list("blocks to deploy", proto.blocks(), kBlocksMax, &request.blocks));
  return request;
}

void to_proto(const BlockTargets& targets, v1::BlockTargets* proto) {
  proto->set_block(targets.block);
  write_names(targets.servers, proto->mutable_servers());
}

absl::StatusOr<BlockTargets> from_proto(const v1::BlockTargets& proto) {
  BlockTargets targets{.block = proto.block()};
  CENOTE_RETURN_IF_ERROR(read_names("servers of a block", proto.servers(), kServersPerBlockMax, &targets.servers));
  return targets;
}

void to_proto(const DeployPlan& plan, v1::BeginDeployReply* proto) {
  proto->set_deploy(plan.deploy);
  proto->set_lease_us(plan.lease.us());
  write_list(plan.send, proto->mutable_send());
  write_list(plan.servers, proto->mutable_servers());
  if (plan.done) to_proto(*plan.done, proto->mutable_done());
}

absl::StatusOr<DeployPlan> from_proto(const v1::BeginDeployReply& proto) {
  DeployPlan plan{.deploy = proto.deploy()};
  CENOTE_ASSIGN_OR_RETURN(plan.lease, duration_of("deploy lease", proto.lease_us()));
  CENOTE_RETURN_IF_ERROR(read_list("blocks to send", proto.send(), kBlocksMax, &plan.send));
  CENOTE_RETURN_IF_ERROR(read_list("memory servers", proto.servers(), kMembersMax, &plan.servers));
  if (proto.has_done()) {
    CENOTE_ASSIGN_OR_RETURN(plan.done, from_proto(proto.done()));
  }
  return plan;
}

void to_proto(const DeployResult& result, v1::CommitDeployReply* proto) {
  proto->set_digest(digest_bytes(result.digest));
  proto->set_name(result.name);
  proto->set_tag(result.tag);
  proto->set_already_existed(result.already_existed);
}

absl::StatusOr<DeployResult> from_proto(const v1::CommitDeployReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("tag", proto.tag(), kNameBytesMax));
  DeployResult result{.name = proto.name(), .tag = proto.tag(), .already_existed = proto.already_existed()};
  CENOTE_ASSIGN_OR_RETURN(result.digest, digest_of("deployed digest", proto.digest()));
  return result;
}

void to_proto(const TagMove& move, v1::TagReply* proto) {
  proto->set_name(move.name);
  proto->set_tag(move.tag);
  proto->set_revision(digest_bytes(move.revision));
  proto->set_previous(digest_bytes(move.previous));
}

absl::StatusOr<TagMove> from_proto(const v1::TagReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("tag", proto.tag(), kNameBytesMax));
  TagMove move{.name = proto.name(), .tag = proto.tag()};
  CENOTE_ASSIGN_OR_RETURN(move.revision, digest_of("tagged revision", proto.revision()));
  CENOTE_ASSIGN_OR_RETURN(move.previous, digest_of("previous revision", proto.previous(), true));
  return move;
}

void to_proto(const Removal& removal, v1::RemoveReply* proto) {
  write_digests(removal.revisions, proto->mutable_revisions());
  proto->set_freed_bytes(removal.freed_bytes);
}

absl::StatusOr<Removal> from_proto(const v1::RemoveReply& proto) {
  Removal removal{.freed_bytes = proto.freed_bytes()};
  CENOTE_RETURN_IF_ERROR(read_digests("removed revisions", proto.revisions(), kRevisionsMax, &removal.revisions));
  return removal;
}

void to_proto(const ModelInfo& model, v1::ModelInfo* proto) {
  proto->set_name(model.name);
  to_proto(model.record, proto->mutable_record());
  write_names(model.tags, proto->mutable_tags());
  proto->set_shared_bytes(model.shared_bytes);
  proto->set_replicas_min(model.replicas_min);
  write_list(model.ready, proto->mutable_ready());
  write_names(model.devices, proto->mutable_devices());
  proto->set_tenant(model.tenant);
}

absl::StatusOr<ModelInfo> from_proto(const v1::ModelInfo& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("model name", proto.name(), kNameBytesMax));
  ModelInfo model{.name = proto.name(), .shared_bytes = proto.shared_bytes(), .replicas_min = proto.replicas_min()};
  CENOTE_ASSIGN_OR_RETURN(model.record, from_proto(proto.record()));
  CENOTE_RETURN_IF_ERROR(read_names("tags", proto.tags(), kRevisionsMax, &model.tags));
  CENOTE_RETURN_IF_ERROR(read_list("readiness", proto.ready(), kMembersMax, &model.ready));
  CENOTE_RETURN_IF_ERROR(read_names("devices", proto.devices(), kMembersMax, &model.devices));
  CENOTE_RETURN_IF_ERROR(check_text("tenant", proto.tenant(), kNameBytesMax));
  model.tenant = proto.tenant();
  return model;
}

void to_proto(const TenantStatus& tenant, v1::TenantStatus* proto) {
  proto->set_name(tenant.name);
  proto->set_used_bytes(tenant.used_bytes);
  proto->set_pool_bytes_max(tenant.pool_bytes_max);
  proto->set_models(tenant.models);
  proto->set_models_max(tenant.models_max);
}

absl::StatusOr<TenantStatus> from_proto(const v1::TenantStatus& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("tenant", proto.name(), kNameBytesMax));
  return TenantStatus{.name = proto.name(), .used_bytes = proto.used_bytes(), .pool_bytes_max = proto.pool_bytes_max(),
                      .models = proto.models(), .models_max = proto.models_max()};
}

namespace {

void to_proto(const RepairStatus& repair, v1::RepairStatus* proto) {
  proto->set_short_blocks(repair.short_blocks);
  proto->set_short_bytes(repair.short_bytes);
  proto->set_lost_blocks(repair.lost_blocks);
  proto->set_copying(repair.copying);
  proto->set_copied_blocks(repair.copied_blocks);
  proto->set_copied_bytes(repair.copied_bytes);
  proto->set_bytes_per_second(repair.bytes_per_second);
}

RepairStatus from_proto(const v1::RepairStatus& proto) {
  return {.short_blocks = proto.short_blocks(), .short_bytes = proto.short_bytes(), .lost_blocks = proto.lost_blocks(), .copying = proto.copying(),
          .copied_blocks = proto.copied_blocks(), .copied_bytes = proto.copied_bytes(), .bytes_per_second = proto.bytes_per_second()};
}

}  // namespace

void to_proto(const ClusterStatus& status, v1::ClusterReply* proto) {
  proto->set_cluster(status.cluster);
  write_list(status.members, proto->mutable_members());
  write_list(status.lost, proto->mutable_lost());
  proto->set_events(status.events);
  proto->set_held_because(status.held_because);
  write_list(status.tenants, proto->mutable_tenants());
  to_proto(status.repair, proto->mutable_repair());
  for (const ExcludedServer& server : status.excluded) {
    v1::ExcludedServer* out = proto->add_excluded();
    out->set_server(server.server);
    out->set_reason(utf8_text(server.reason, kTextBytesMax));
    out->set_since_us(server.since.us());
  }
}

absl::StatusOr<ClusterStatus> from_proto(const v1::ClusterReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("cluster", proto.cluster(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("held_because", proto.held_because(), kTextBytesMax));
  ClusterStatus status{.cluster = proto.cluster(), .events = proto.events(), .held_because = proto.held_because()};
  CENOTE_RETURN_IF_ERROR(read_list("members", proto.members(), kMembersMax, &status.members));
  CENOTE_RETURN_IF_ERROR(read_list("lost members", proto.lost(), kMembersMax, &status.lost));
  CENOTE_RETURN_IF_ERROR(read_list("tenants", proto.tenants(), kRevisionsMax, &status.tenants));
  status.repair = from_proto(proto.repair());
  CENOTE_RETURN_IF_ERROR(check_count("excluded servers", proto.excluded_size(), kMembersMax));
  for (const v1::ExcludedServer& server : proto.excluded()) {
    CENOTE_RETURN_IF_ERROR(check_text("excluded server", server.server(), kNameBytesMax));
    ExcludedServer& out = status.excluded.emplace_back(ExcludedServer{.server = server.server(), .reason = utf8_text(server.reason(), kTextBytesMax)});
    CENOTE_ASSIGN_OR_RETURN(out.since, duration_of("excluded since", server.since_us()));
  }
  return status;
}

absl::StatusOr<std::string> operation_of(const std::string& bytes) {
  if (bytes.empty() || bytes.size() == kOperationIdBytes) return bytes;
  return absl::InvalidArgumentError(str_cat("operation: ", bytes.size(), " bytes, none or ", kOperationIdBytes, " are allowed"));
}

void to_proto(const EventPage& page, v1::ReadEventsReply* proto) {
  proto->set_cluster(page.cluster);
  proto->set_first(page.first);
  proto->set_last(page.last);
  for (const std::string& event : page.events) proto->add_events(event);
}

absl::StatusOr<EventPage> from_proto(const v1::ReadEventsReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("cluster", proto.cluster(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_count("events", proto.events_size(), kBlocksMax));
  return EventPage{.cluster = proto.cluster(), .first = proto.first(), .last = proto.last(), .events = {proto.events().begin(), proto.events().end()}};
}

void to_proto(const Unclaimed& unclaimed, v1::FindUnclaimedReply* proto) {
  write_list(unclaimed.labels, proto->mutable_labels());
  proto->set_blocks(unclaimed.blocks);
  proto->set_bytes(unclaimed.bytes);
  write_names(unclaimed.absent, proto->mutable_absent());
  proto->set_held_because(unclaimed.held_because);
}

absl::StatusOr<Unclaimed> from_proto(const v1::FindUnclaimedReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("held_because", proto.held_because(), kTextBytesMax));
  Unclaimed unclaimed{.blocks = proto.blocks(), .bytes = proto.bytes(), .held_because = proto.held_because()};
  CENOTE_RETURN_IF_ERROR(read_list("labels", proto.labels(), kBlocksMax, &unclaimed.labels));
  CENOTE_RETURN_IF_ERROR(read_names("absent memory servers", proto.absent(), kMembersMax, &unclaimed.absent));
  return unclaimed;
}

}  // namespace cenote::wire
