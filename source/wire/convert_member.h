// wire/convert_member.h - message/member.h and the directives of message/control.h <-> protobuf. Rules: wire/convert_record.h.
#pragma once

#include "absl/status/statusor.h"
#include "message/control.h"
#include "message/member.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

void to_proto(const RevisionState& state, v1::RevisionState* proto);
absl::StatusOr<RevisionState> from_proto(const v1::RevisionState& proto);

void to_proto(const ExecutorReport& report, v1::ExecutorReport* proto);
absl::StatusOr<ExecutorReport> from_proto(const v1::ExecutorReport& proto);

// These, and MemoryDirective's: convert_repair.cc.
void to_proto(const CopyFailure& failure, v1::CopyFailure* proto);
absl::StatusOr<CopyFailure> from_proto(const v1::CopyFailure& proto);
void to_proto(const DoubtfulReplica& replica, v1::DoubtfulReplica* proto);
absl::StatusOr<DoubtfulReplica> from_proto(const v1::DoubtfulReplica& proto);
void to_proto(const ServerSeen& seen, v1::ServerSeen* proto);
absl::StatusOr<ServerSeen> from_proto(const v1::ServerSeen& proto);

void to_proto(const MemberReport& report, v1::MemberReport* proto);
absl::StatusOr<MemberReport> from_proto(const v1::MemberReport& proto);

void to_proto(const TagView& tag, v1::TagView* proto);
absl::StatusOr<TagView> from_proto(const v1::TagView& proto);

// Replicas cross as indices into the message's own memory_servers; a name that is not among them is left out.
void to_proto(const Assignment& assignment, v1::Assignment* proto);
absl::StatusOr<Assignment> from_proto(const v1::Assignment& proto);

void to_proto(const ClusterView& view, v1::ClusterView* proto);
absl::StatusOr<ClusterView> from_proto(const v1::ClusterView& proto);

// Sources of copies cross as indices into the message's own, as above.
void to_proto(const MemoryDirective& memory, v1::MemoryDirective* proto);
absl::StatusOr<MemoryDirective> from_proto(const v1::MemoryDirective& proto);

// kInvalidArgument also for a kind this version does not know.
void to_proto(const Directive& directive, v1::Directive* proto);
absl::StatusOr<Directive> from_proto(const v1::Directive& proto);

}  // namespace cenote::wire
