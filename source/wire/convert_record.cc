#include "wire/convert_record.h"

#include "base/status.h"
#include "base/units.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"

namespace cenote::wire {

void to_proto(const BlockRef& block, v1::BlockRef* proto) {
  proto->set_id(digest_bytes(block.id));
  proto->set_size_bytes(block.size_bytes);
}

absl::StatusOr<BlockRef> from_proto(const v1::BlockRef& proto) {
  BlockRef block{.size_bytes = proto.size_bytes()};
  CENOTE_ASSIGN_OR_RETURN(block.id, digest_of("block id", proto.id()));
  if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax) {
    return absl::InvalidArgumentError(
        str_cat("block ", block.id.short_hex(), ": ", block.size_bytes, " bytes, allowed are 1 to ", kBlockBytesMax));
  }
  return block;
}

void to_proto(const RevisionRecord& record, v1::RevisionRecord* proto) {
  proto->set_digest(digest_bytes(record.digest));
  proto->set_name(record.name);
  proto->set_manifest_bytes(record.manifest_bytes);
  write_list(record.manifest_blocks, proto->mutable_manifest_blocks());
  write_list(record.blocks, proto->mutable_blocks());
  write_list(record.file_blocks, proto->mutable_file_blocks());
  proto->set_weight_bytes(record.weight_bytes);
  proto->set_created_us(record.created_us);
  proto->set_device_filter(record.device_filter);
  if (!record.label.id.empty()) to_proto(record.label, proto->mutable_label());
}

absl::StatusOr<RevisionRecord> from_proto(const v1::RevisionRecord& proto) {
  RevisionRecord record{.name = proto.name(), .manifest_bytes = proto.manifest_bytes(), .weight_bytes = proto.weight_bytes(),
                        .created_us = proto.created_us(), .device_filter = proto.device_filter()};
  CENOTE_ASSIGN_OR_RETURN(record.digest, digest_of("revision digest", proto.digest()));
  CENOTE_RETURN_IF_ERROR(check_text("revision name", record.name, kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("device_filter", record.device_filter, kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(read_list("manifest_blocks", proto.manifest_blocks(), kBlocksMax, &record.manifest_blocks));
  CENOTE_RETURN_IF_ERROR(read_list("blocks", proto.blocks(), kBlocksMax, &record.blocks));
  CENOTE_RETURN_IF_ERROR(read_list("file_blocks", proto.file_blocks(), kBlocksMax, &record.file_blocks));
  if (proto.has_label()) {
    CENOTE_ASSIGN_OR_RETURN(record.label, from_proto(proto.label()));
  }
  return record;
}

void to_proto(const MemoryServerInfo& server, v1::MemoryServerInfo* proto) {
  proto->set_name(server.name);
  proto->set_control_address(server.control_address);
  proto->set_fabric_provider(server.fabric_provider);
  proto->set_fabric_address(server.fabric_address);
  proto->set_incarnation(server.incarnation);
  proto->set_capacity_bytes(server.capacity_bytes);
  proto->set_used_bytes(server.used_bytes);
}

absl::StatusOr<MemoryServerInfo> from_proto(const v1::MemoryServerInfo& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("memory server name", proto.name(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("control_address", proto.control_address(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("fabric_provider", proto.fabric_provider(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("fabric_address", proto.fabric_address(), kOpaqueBytesMax));
  return MemoryServerInfo{.name = proto.name(), .control_address = proto.control_address(),
                          .fabric_provider = proto.fabric_provider(), .fabric_address = proto.fabric_address(),
                          .incarnation = proto.incarnation(), .capacity_bytes = proto.capacity_bytes(),
                          .used_bytes = proto.used_bytes()};
}

void to_proto(const GrantAsk& ask, v1::GrantRequest* proto) {
  write_digests(ask.ids, proto->mutable_ids());
  proto->set_holder(ask.holder);
  proto->set_wait_us(ask.wait.us());
}

absl::StatusOr<GrantAsk> from_proto(const v1::GrantRequest& proto) {
  GrantAsk ask{.ids = {}, .holder = proto.holder(), .wait = {}};
  CENOTE_ASSIGN_OR_RETURN(ask.wait, duration_of("grant wait", proto.wait_us()));
  CENOTE_RETURN_IF_ERROR(check_text("holder", ask.holder, kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(read_digests("grant ids", proto.ids(), kBlocksMax, &ask.ids));
  return ask;
}

void to_proto(const BlockGrant& grant, v1::BlockGrant* proto) {
  proto->set_id(digest_bytes(grant.id));
  proto->set_offset_bytes(grant.offset_bytes);
  proto->set_size_bytes(grant.size_bytes);
}

absl::StatusOr<BlockGrant> from_proto(const v1::BlockGrant& proto) {
  BlockGrant grant{.offset_bytes = proto.offset_bytes(), .size_bytes = proto.size_bytes()};
  CENOTE_ASSIGN_OR_RETURN(grant.id, digest_of("granted block", proto.id()));
  if (grant.size_bytes == 0 || grant.size_bytes > kBlockBytesMax || grant.offset_bytes > UINT64_MAX - grant.size_bytes) {
    return absl::InvalidArgumentError(str_cat("granted block ", grant.id.short_hex(), ": ", grant.size_bytes, " bytes at ",
                                              grant.offset_bytes, ", a block has 1 to ", kBlockBytesMax));
  }
  return grant;
}

void to_proto(const Grant& grant, v1::GrantReply* proto) {
  proto->set_incarnation(grant.incarnation);
  proto->set_region_key(grant.region_key);
  proto->set_region_base(grant.region_base);
  proto->set_duration_us(grant.duration.us());
  write_list(grant.blocks, proto->mutable_blocks());
  write_digests(grant.missing, proto->mutable_missing());
}

absl::StatusOr<Grant> from_proto(const v1::GrantReply& proto) {
  Grant grant{.incarnation = proto.incarnation(), .region_key = proto.region_key(), .region_base = proto.region_base()};
  CENOTE_ASSIGN_OR_RETURN(grant.duration, duration_of("grant duration", proto.duration_us()));
  CENOTE_RETURN_IF_ERROR(read_list("granted blocks", proto.blocks(), kBlocksMax, &grant.blocks));
  CENOTE_RETURN_IF_ERROR(read_digests("missing blocks", proto.missing(), kBlocksMax, &grant.missing));
  return grant;
}

void to_proto(const SlabAsk& ask, v1::OpenSlabRequest* proto) {
  proto->set_size_bytes(ask.size_bytes);
  proto->set_writer(ask.writer);
}

absl::StatusOr<SlabAsk> from_proto(const v1::OpenSlabRequest& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("writer", proto.writer(), kNameBytesMax));
  return SlabAsk{.size_bytes = proto.size_bytes(), .writer = proto.writer()};
}

void to_proto(const SlabInfo& slab, v1::OpenSlabReply* proto) {
  proto->set_slab(slab.slab);
  proto->set_incarnation(slab.incarnation);
  proto->set_region_key(slab.region_key);
  proto->set_region_base(slab.region_base);
  proto->set_size_bytes(slab.size_bytes);
  proto->set_duration_us(slab.duration.us());
  proto->set_fabric_provider(slab.fabric_provider);
  proto->set_fabric_address(slab.fabric_address);
}

absl::StatusOr<SlabInfo> from_proto(const v1::OpenSlabReply& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("fabric_provider", proto.fabric_provider(), kNameBytesMax));
  CENOTE_RETURN_IF_ERROR(check_text("fabric_address", proto.fabric_address(), kOpaqueBytesMax));
  SlabInfo slab{.slab = proto.slab(), .incarnation = proto.incarnation(), .region_key = proto.region_key(),
                .region_base = proto.region_base(), .size_bytes = proto.size_bytes(),
                .fabric_provider = proto.fabric_provider(), .fabric_address = proto.fabric_address()};
  CENOTE_ASSIGN_OR_RETURN(slab.duration, duration_of("slab duration", proto.duration_us()));
  return slab;
}

void to_proto(const SealRange& range, v1::SealRange* proto) {
  proto->set_offset_bytes(range.offset_bytes);
  to_proto(range.block, proto->mutable_block());
}

absl::StatusOr<SealRange> from_proto(const v1::SealRange& proto) {
  SealRange range{.offset_bytes = proto.offset_bytes()};
  CENOTE_ASSIGN_OR_RETURN(range.block, from_proto(proto.block()));
  if (range.offset_bytes > UINT64_MAX - range.block.size_bytes) {
    return absl::InvalidArgumentError(str_cat("seal range of block ", range.block.id.short_hex(), ": offset ",
                                              range.offset_bytes, " is past any slab"));
  }
  return range;
}

void to_proto(const SealAsk& ask, v1::SealSlabRequest* proto) {
  proto->set_slab(ask.slab);
  proto->set_incarnation(ask.incarnation);
  write_list(ask.ranges, proto->mutable_ranges());
}

absl::StatusOr<SealAsk> from_proto(const v1::SealSlabRequest& proto) {
  SealAsk ask{.slab = proto.slab(), .incarnation = proto.incarnation()};
  CENOTE_RETURN_IF_ERROR(read_list("seal ranges", proto.ranges(), kBlocksMax, &ask.ranges));
  return ask;
}

void to_proto(const SealResult& result, v1::SealSlabReply* proto) {
  proto->set_sealed_bytes(result.sealed_bytes);
  proto->set_deduplicated_bytes(result.deduplicated_bytes);
}

absl::StatusOr<SealResult> from_proto(const v1::SealSlabReply& proto) {
  return SealResult{.sealed_bytes = proto.sealed_bytes(), .deduplicated_bytes = proto.deduplicated_bytes()};
}

}  // namespace cenote::wire
