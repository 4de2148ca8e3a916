// Sealing: from a slab into the arena and onto the disk.
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "node/memory_server.h"

namespace cenote::node {

// Gives back what reserve_block() took.
void MemoryServer::release_ranges(Slab& slab) {
  for (const CopyRange& copy : slab.copies) {
    if (copy.to_arena) blocks_.cancel({copy.target_offset_bytes, round_up(copy.block.size_bytes, kBlockAlignBytes)});
    if (options_.disk) disk_reserved_bytes_ -= stored_bytes(copy.block.size_bytes);
  }
  slab.copies.clear();
  slab.present.clear();
  slab.present_bytes = 0;
}

// Checks every range and reserves room for what is not there; on an error nothing stays reserved.
absl::Status MemoryServer::reserve_ranges(Instant now, const SealAsked& ask, Slab& slab) {
  if (ask.ranges.empty() || ask.ranges.size() > kRangesMax) {
    return absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": ", ask.ranges.size(), " ranges, must be 1 to ", kRangesMax));
  }
  std::map<Digest, uint32_t> seen;
  for (const SealRange& range : ask.ranges) {
    const BlockRef& block = range.block;
    absl::Status status;
    const auto [entry, first] = seen.emplace(block.id, block.size_bytes);
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || block.size_bytes > slab.size_bytes ||
        range.offset_bytes > slab.size_bytes - block.size_bytes) {
      status = absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": block ", block.id.short_hex(), " of ", block.size_bytes, " bytes at ",
                                                  range.offset_bytes, " does not lie in the slab's ", slab.size_bytes,
                                                  " bytes, or is not of 1 to ", kBlockBytesMax, " bytes"));
    } else if (!first && entry->second != block.size_bytes) {
      status = absl::InvalidArgumentError(str_cat("sealing slab ", ask.slab, ": block ", block.id.short_hex(), " is given with ", entry->second,
                                                  " and with ", block.size_bytes, " bytes"));
    } else if (!first) {
      slab.present_bytes += block.size_bytes;
    } else {
      status = reserve_block(now, range, slab);
    }
    if (!status.ok()) {
      release_ranges(slab);
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status MemoryServer::reserve_block(Instant now, const SealRange& range, Slab& slab) {
  const BlockRef& block = range.block;
  // With a disk a leaving block's file is gone: its bytes come back when it is kept anew.
  if (!options_.disk && blocks_.revive(block.id)) note_came(block);
  if (const auto size = size_of(block.id)) {
    if (*size != block.size_bytes) {
      return absl::InvalidArgumentError(str_cat("block ", block.id.short_hex(), " has ", *size, " bytes, not ", block.size_bytes));
    }
    slab.present.push_back(block.id);
    slab.present_bytes += block.size_bytes;
    return absl::OkStatus();
  }
  const uint64_t on_disk = stored_bytes(block.size_bytes), taken = stored_bytes_ + disk_reserved_bytes_;
  if (options_.disk && on_disk > options_.disk_capacity_bytes - std::min(options_.disk_capacity_bytes, taken)) {
    release_ranges(slab);  // So that what is said to be taken is.
    return absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " is full: no room on disk for a block of ", format_bytes(block.size_bytes),
                                                ", ", format_bytes(stored_bytes_ + disk_reserved_bytes_), " of ", format_bytes(options_.disk_capacity_bytes),
                                                " taken; remove models or raise `data_capacity`"));
  }
  const auto room = make_room(now, block.size_bytes);
  if (!room && !options_.disk) {
    release_ranges(slab);
    return absl::ResourceExhaustedError(str_cat("memory server ", options_.name, " is full: no room for a block of ", format_bytes(block.size_bytes),
                                                ", ", format_bytes(blocks_.extents().free_bytes()), " of ", format_bytes(options_.block_area_bytes),
                                                " free; remove models or raise `capacity`"));
  }
  if (options_.disk) disk_reserved_bytes_ += on_disk;
  slab.copies.push_back({.source_offset_bytes = slab.extent.offset_bytes + range.offset_bytes,
                         .target_offset_bytes = room ? room->offset_bytes : 0,
                         .block = block,
                         .to_arena = room.has_value()});
  return absl::OkStatus();
}

void MemoryServer::handle(Instant now, const SealAsked& ask, Actions& actions) {
  const auto slab = find_open(ask.slab, ask.incarnation);
  if (!slab.ok()) {
    actions.emplace_back(SealReply{ask.call, slab.status()});
    return;
  }
  if (const absl::Status status = reserve_ranges(now, ask, (*slab)->second); !status.ok()) {
    actions.emplace_back(SealReply{ask.call, status});
    close(*slab, 0, actions);  // A seal ends its slab, whatever comes of it.
    return;
  }
  (*slab)->second.state = SlabState::kSealClosing;
  (*slab)->second.call = ask.call;
  actions.emplace_back(UnregisterSlab{ask.slab});
}

void MemoryServer::handle(Instant now, const SealVerified& done, Actions& actions) {
  const auto found = slabs_.find(done.slab);
  CENOTE_CHECK(found != slabs_.end() && found->second.state == SlabState::kSealing);
  Slab slab = std::move(found->second);
  slabs_.erase(found);  // First: from here on its blocks are nobody's who is still sealing.
  slab_extents_.give(slab.extent);
  pump_due_ = true;
  if (done.disk) {
    disk_note_ = str_cat("data_dir takes no blocks: ", to_std(done.status.message()));
    disk_full_until_ = now + kDiskRetry;
    disk_refuses_ = true;
  } else if (done.status.ok() && options_.disk && !slab.copies.empty()) {
    disk_note_.clear();
    disk_refuses_ = false;
  }
  actions.emplace_back(SealReply{slab.call, finish_seal(now, slab, done.status, actions)});
}

absl::StatusOr<SealResult> MemoryServer::finish_seal(Instant now, Slab& slab, const absl::Status& verified, Actions& actions) {
  absl::Status status = verified;
  for (const Digest& id : slab.present) {
    if (status.ok() && !size_of(id)) {
      status = absl::UnavailableError(str_cat("block ", id.short_hex(), " was dropped while the slab was sealed; write it again"));
    }
  }
  if (!status.ok()) {
    std::vector<Digest> unkept;
    for (const CopyRange& copy : slab.copies) {
      if (options_.disk && !stored_.contains(copy.block.id)) unkept.push_back(copy.block.id);
    }
    remove_files(std::move(unkept), false, actions);
    release_ranges(slab);
    return status;
  }
  SealResult result{.deduplicated_bytes = slab.present_bytes};
  for (const CopyRange& copy : slab.copies) {
    const BlockRef& block = copy.block;
    bool fresh = !options_.disk;
    if (options_.disk) {
      disk_reserved_bytes_ -= stored_bytes(block.size_bytes);
      fresh = stored_.emplace(block.id, block.size_bytes).second;
      if (fresh) stored_bytes_ += stored_bytes(block.size_bytes);
    }
    if (copy.to_arena) {
      const bool held = blocks_.hold(block, {copy.target_offset_bytes, round_up(block.size_bytes, kBlockAlignBytes)}, now);
      if (!options_.disk) fresh = held;  // Else another slab brought it meanwhile, or it was leaving and came back.
      arrived(block.id, block.size_bytes);
    }
    (fresh ? result.sealed_bytes : result.deduplicated_bytes) += block.size_bytes;
    note_came(block);
  }
  return result;
}

}  // namespace cenote::node
