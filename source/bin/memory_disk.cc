#include "bin/memory_disk.h"

#include <sys/stat.h>

#include <cstring>

#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "base/units.h"

namespace cenote {
namespace {

static_assert(node::stored_bytes(5000) == disk::file_bytes(5000) && node::stored_bytes(4096) == disk::file_bytes(4096),
              "the state machine counts what the store writes");

absl::Status check_hash(std::span<const std::byte> bytes, const BlockRef& block, std::string_view remedy) {
  if (const Digest found = sha256(bytes); found != block.id) {
    return absl::DataLossError(str_cat("block ", block.id.hex(), " of ", block.size_bytes, " bytes: what ", remedy, " hashes to ", found.short_hex()));
  }
  return absl::OkStatus();
}

// What a writer is told of a disk that refuses: its own bytes were right, so never kDataLoss.
absl::Status refused(const absl::Status& status) {
  const std::string text = str_cat("writing to data_dir: ", to_std(status.message()));
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    return absl::ResourceExhaustedError(str_cat(text, "; free some space there, or lower `data_capacity` to what there is"));
  }
  return absl::UnavailableError(str_cat(text, "; write to another server, and look at this one's device"));
}

}  // namespace

node::SealVerified copy_and_hash(const MemoryAreas& areas, const node::CopyAndHash& action) {
  for (const node::CopyRange& range : action.ranges) {
    const auto source = areas.slabs.subspan(range.source_offset_bytes, range.block.size_bytes);
    const auto target = areas.blocks.subspan(range.target_offset_bytes, range.block.size_bytes);
    std::memcpy(target.data(), source.data(), source.size());
    if (absl::Status status = check_hash(target, range.block, "arrived"); !status.ok()) {
      return {.slab = action.slab, .status = absl::DataLossError(str_cat(to_std(status.message()), "; send it again"))};
    }
  }
  return {.slab = action.slab, .status = absl::OkStatus()};
}

node::BlockScrubbed scrub_arena(const MemoryAreas& areas, const node::ScrubBlock& action) {
  node::BlockScrubbed done;
  if (action.arena_offset_bytes) {
    done.arena = check_hash(areas.blocks.subspan(*action.arena_offset_bytes, action.block.size_bytes), action.block, "lies in the arena");
    if (!done.arena.ok()) LOG_ERROR("scrubber: {}; its readers check too, it is not granted again", done.arena.message());
  }
  return done;
}

node::CopyChecked check_copy(const MemoryAreas& areas, const node::CheckCopy& action) {
  return {.id = action.block.id, .status = check_hash(areas.blocks.subspan(action.offset_bytes, action.block.size_bytes), action.block, "arrived")};
}

absl::StatusOr<std::unique_ptr<MemoryDisk>> MemoryDisk::open(const MemorySettings& settings, const std::string& cluster) {
  if (settings.data_dir.empty()) return nullptr;
  std::unique_ptr<MemoryDisk> disk(new MemoryDisk());
  ::mkdir(settings.data_dir.c_str(), 0700);  // If that cannot be, open() says why.
  disk->files_ = disk::open_posix_files(settings.data_dir);
  const Instant begin = monotonic_now();
  CENOTE_ASSIGN_OR_RETURN(disk->store_, disk::BlockStore::open(*disk->files_.files, settings.data_dir, {.cluster = cluster, .server = settings.name}));
  const disk::BlockStore::Found& found = disk->store_->found();
  uint64_t used = 0;
  for (const BlockRef& block : found.blocks) used += disk::file_bytes(block.size_bytes);
  LOG_INFO("data_dir {}: {} blocks, {} of {}, {} interrupted writes removed, {} bad files set aside, {} foreign names left alone, in {:.0f} ms", settings.data_dir,
           found.blocks.size(), format_bytes(used), format_bytes(settings.data_capacity_bytes), found.interrupted, found.bad, found.foreign,
           (monotonic_now() - begin).ms());
  disk->notes_ = disk->files_.notes;
  if (found.bad > 0) disk->notes_.push_back(str_cat("data_dir: ", found.bad, " bad files were set aside at start, in ", settings.data_dir, "/quarantine"));
  const auto free = disk->files_.files->free_bytes(settings.data_dir);
  if (free.ok() && used + *free < settings.data_capacity_bytes) {
    disk->notes_.push_back(str_cat("data_dir: its file system has room for ", format_bytes(used + *free), ", data_capacity says ",
                                   format_bytes(settings.data_capacity_bytes)));
  }
  for (size_t i = 0; i < kReaders; ++i) disk->readers_.push_back(std::make_unique<Worker>());
  return disk;
}

// What staging() holds was hashed there.
absl::Status MemoryDisk::keep(const BlockRef& block) {
  const absl::Status status = store_->keep(block);
  return status.ok() ? status : refused(status);
}

node::SealVerified MemoryDisk::seal(const MemoryAreas& areas, const node::CopyAndHash& action) {
  node::SealVerified done{.slab = action.slab};
  for (const node::CopyRange& range : action.ranges) {
    const auto source = areas.slabs.subspan(range.source_offset_bytes, range.block.size_bytes);
    const auto copy = store_->staging().first(range.block.size_bytes);
    std::memcpy(copy.data(), source.data(), source.size());
    if (absl::Status status = check_hash(copy, range.block, "arrived"); !status.ok()) {
      done.status = absl::DataLossError(str_cat(to_std(status.message()), "; send it again"));
      return done;
    }
    if (range.to_arena) std::memcpy(areas.blocks.data() + range.target_offset_bytes, copy.data(), copy.size());
    if (done.status = keep(range.block); !done.status.ok()) {
      done.disk = true;
      return done;
    }
  }
  if (const absl::Status status = store_->settle(); !status.ok()) {
    done.status = refused(status);
    done.disk = true;
  }
  return done;
}

node::CopyChecked MemoryDisk::check_copy(const MemoryAreas& areas, const node::CheckCopy& action) {
  const auto copy = store_->staging().first(action.block.size_bytes);
  std::memcpy(copy.data(), areas.blocks.data() + action.offset_bytes, copy.size());
  node::CopyChecked done{.id = action.block.id, .status = check_hash(copy, action.block, "arrived")};
  if (!done.status.ok()) return done;
  done.status = keep(action.block);
  if (const absl::Status settled = done.status.ok() ? store_->settle() : absl::OkStatus(); !settled.ok()) done.status = refused(settled);
  done.disk = !done.status.ok();
  return done;
}

node::BlockStored MemoryDisk::store(const MemoryAreas& areas, const node::StoreBlock& action) {
  const auto copy = store_->staging().first(action.block.size_bytes);
  std::memcpy(copy.data(), areas.blocks.data() + action.source_offset_bytes, copy.size());
  node::BlockStored done{.id = action.block.id, .status = check_hash(copy, action.block, "lies in the arena")};
  if (done.status.ok()) done.status = keep(action.block);
  if (const absl::Status settled = done.status.ok() ? store_->settle() : absl::OkStatus(); !settled.ok()) done.status = refused(settled);
  if (!done.status.ok()) LOG_ERROR("storing block {} anew: {}", action.block.id.short_hex(), done.status.message());
  return done;
}

void MemoryDisk::remove(const node::RemoveBlocks& action) {
  for (const Digest& id : action.ids) {
    const absl::Status status = action.aside ? store_->quarantine(id) : store_->remove(id);
    if (!status.ok()) LOG_WARNING("data_dir: block {} stays until the next start: {}", id.short_hex(), status.message());
  }
  if (const absl::Status status = store_->settle(); !status.ok()) LOG_WARNING("data_dir: {}", status.message());
}

void MemoryDisk::remember(const node::RememberLineage& action) {
  const absl::Status status = store_->remember({.lineage = action.lineage, .sequence = action.sequence});
  if (!status.ok()) LOG_WARNING("data_dir: which catalogue its blocks came under is not remembered across a restart: {}", status.message());
}

node::BlockLoaded MemoryDisk::load(const MemoryAreas& areas, const node::LoadBlock& action) const {
  const auto target = areas.blocks.subspan(action.target_offset_bytes, disk::payload_bytes(action.block.size_bytes));
  node::BlockLoaded done{.id = action.block.id, .status = store_->read(action.block, target)};
  if (!done.status.ok()) LOG_ERROR("reading block {} back: {}", action.block.id.short_hex(), done.status.message());
  return done;
}

node::BlockScrubbed MemoryDisk::scrub(const MemoryAreas& areas, const node::ScrubBlock& action) const {
  node::BlockScrubbed done = scrub_arena(areas, action);
  if (!action.disk) return done;
  const disk::PageBuffer buffer(disk::file_bytes(action.block.size_bytes));
  done.disk = store_->check(action.block, buffer.bytes());
  if (!done.disk.ok()) LOG_ERROR("scrubber: block {} on disk: {}", action.block.id.short_hex(), done.disk.message());
  return done;
}

void MemoryDisk::read_later(std::function<void()> task) { readers_[next_reader_++ % kReaders]->post(std::move(task)); }

}  // namespace cenote
