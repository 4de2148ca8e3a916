// bin/memory_disk.h - a memory server's disk at work: its store, the threads that read it, and the copying, hashing and keeping of sealed
// blocks. What is decided is decided in node/memory_server.h.
//
// seal(), check_copy(), store(), remove() and remember() are the writer's: one thread at a time, in the order in which they were decided. load() and scrub() any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/cluster_settings.h"
#include "bin/worker.h"
#include "disk/block_store.h"
#include "disk/posix_files.h"
#include "node/memory_server.h"

namespace cenote {

// Where a memory server's bytes are.
struct MemoryAreas {
  std::span<const std::byte> slabs;
  std::span<std::byte> blocks;
};

// Without a disk: copies each range, then hashes the copy, not the slab: a write that is still on its way when the key is closed can reach
// the slab only.
node::SealVerified copy_and_hash(const MemoryAreas& areas, const node::CopyAndHash& action);
// Without a disk: only the arena's copy.
node::BlockScrubbed scrub_arena(const MemoryAreas& areas, const node::ScrubBlock& action);

node::CopyChecked check_copy(const MemoryAreas& areas, const node::CheckCopy& action);

class MemoryDisk {
 public:
  // Null if the settings name no data_dir. Errors: BlockStore::open's, which end the daemon with the remedy.
  static absl::StatusOr<std::unique_ptr<MemoryDisk>> open(const MemorySettings& settings, const std::string& cluster);

  const std::vector<BlockRef>& stored() const { return store_->found().blocks; }
  const disk::StoreLineage& lineage() const { return store_->found().lineage; }
  const std::vector<std::string>& notes() const { return notes_; }

  node::SealVerified seal(const MemoryAreas& areas, const node::CopyAndHash& action);
  node::CopyChecked check_copy(const MemoryAreas& areas, const node::CheckCopy& action);
  node::BlockStored store(const MemoryAreas& areas, const node::StoreBlock& action);
  void remove(const node::RemoveBlocks& action);
  void remember(const node::RememberLineage& action);
  node::BlockLoaded load(const MemoryAreas& areas, const node::LoadBlock& action) const;
  node::BlockScrubbed scrub(const MemoryAreas& areas, const node::ScrubBlock& action) const;

  // On one of kReaders threads. From one thread. Their number is bounded by what the state machine has read at once.
  void read_later(std::function<void()> task);

  static constexpr size_t kReaders = 4;

 private:
  MemoryDisk() = default;
  absl::Status keep(const BlockRef& block);

  disk::PosixFiles files_;
  std::unique_ptr<disk::BlockStore> store_;
  std::vector<std::string> notes_;
  std::vector<std::unique_ptr<Worker>> readers_;  // Last: they use what is above.
  size_t next_reader_ = 0;
};

}  // namespace cenote
