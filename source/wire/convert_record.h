// wire/convert_record.h - message/record.h and message/control.h's seal result <-> protobuf.
//
// All of convert_*.h: to_proto() fills an empty message and cannot fail; from_proto() checks every length, count, enum and digest
// against wire/bounds.h and returns kInvalidArgument naming the field. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "message/control.h"
#include "message/record.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

void to_proto(const BlockRef& block, v1::BlockRef* proto);
absl::StatusOr<BlockRef> from_proto(const v1::BlockRef& proto);

void to_proto(const RevisionRecord& record, v1::RevisionRecord* proto);
absl::StatusOr<RevisionRecord> from_proto(const v1::RevisionRecord& proto);

void to_proto(const MemoryServerInfo& server, v1::MemoryServerInfo* proto);
absl::StatusOr<MemoryServerInfo> from_proto(const v1::MemoryServerInfo& proto);

// GrantRead.
struct GrantAsk {
  std::vector<Digest> ids;
  std::string holder;
  Duration wait;  // How long the server may hold the call.
};
void to_proto(const GrantAsk& ask, v1::GrantRequest* proto);
absl::StatusOr<GrantAsk> from_proto(const v1::GrantRequest& proto);
void to_proto(const BlockGrant& grant, v1::BlockGrant* proto);
absl::StatusOr<BlockGrant> from_proto(const v1::BlockGrant& proto);
void to_proto(const Grant& grant, v1::GrantReply* proto);
absl::StatusOr<Grant> from_proto(const v1::GrantReply& proto);

// OpenSlab, SealSlab, AbandonSlab.
struct SlabAsk {
  uint64_t size_bytes = 0;
  std::string writer;
};
void to_proto(const SlabAsk& ask, v1::OpenSlabRequest* proto);
absl::StatusOr<SlabAsk> from_proto(const v1::OpenSlabRequest& proto);
void to_proto(const SlabInfo& slab, v1::OpenSlabReply* proto);
absl::StatusOr<SlabInfo> from_proto(const v1::OpenSlabReply& proto);
void to_proto(const SealRange& range, v1::SealRange* proto);
absl::StatusOr<SealRange> from_proto(const v1::SealRange& proto);
struct SealAsk {
  uint64_t slab = 0;
  Incarnation incarnation = 0;
  std::vector<SealRange> ranges;
};
void to_proto(const SealAsk& ask, v1::SealSlabRequest* proto);
absl::StatusOr<SealAsk> from_proto(const v1::SealSlabRequest& proto);
void to_proto(const SealResult& result, v1::SealSlabReply* proto);
absl::StatusOr<SealResult> from_proto(const v1::SealSlabReply& proto);

}  // namespace cenote::wire
