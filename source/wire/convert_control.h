// wire/convert_control.h - deploys, names and listings of message/control.h <-> protobuf. Rules: wire/convert_record.h.
#pragma once

#include "absl/status/statusor.h"
#include "message/control.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

void to_proto(const DeployRequest& request, v1::BeginDeployRequest* proto);
absl::StatusOr<DeployRequest> from_proto(const v1::BeginDeployRequest& proto);

void to_proto(const BlockTargets& targets, v1::BlockTargets* proto);
absl::StatusOr<BlockTargets> from_proto(const v1::BlockTargets& proto);
void to_proto(const DeployPlan& plan, v1::BeginDeployReply* proto);
absl::StatusOr<DeployPlan> from_proto(const v1::BeginDeployReply& proto);

void to_proto(const DeployResult& result, v1::CommitDeployReply* proto);
absl::StatusOr<DeployResult> from_proto(const v1::CommitDeployReply& proto);

void to_proto(const TagMove& move, v1::TagReply* proto);
absl::StatusOr<TagMove> from_proto(const v1::TagReply& proto);

void to_proto(const Removal& removal, v1::RemoveReply* proto);
absl::StatusOr<Removal> from_proto(const v1::RemoveReply& proto);

void to_proto(const ModelInfo& model, v1::ModelInfo* proto);
absl::StatusOr<ModelInfo> from_proto(const v1::ModelInfo& proto);

void to_proto(const TenantStatus& tenant, v1::TenantStatus* proto);
absl::StatusOr<TenantStatus> from_proto(const v1::TenantStatus& proto);
void to_proto(const ClusterStatus& status, v1::ClusterReply* proto);
absl::StatusOr<ClusterStatus> from_proto(const v1::ClusterReply& proto);

// The random bytes that name one change through all its tries; empty: none.
absl::StatusOr<std::string> operation_of(const std::string& bytes);

void to_proto(const EventPage& page, v1::ReadEventsReply* proto);
absl::StatusOr<EventPage> from_proto(const v1::ReadEventsReply& proto);
void to_proto(const Unclaimed& unclaimed, v1::FindUnclaimedReply* proto);
absl::StatusOr<Unclaimed> from_proto(const v1::FindUnclaimedReply& proto);

}  // namespace cenote::wire
