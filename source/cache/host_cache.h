// cache/host_cache.h - the agent's side of the cache: makes the shared memory, hands out its bytes, publishes arrivals.
//
// As root the cache lies on a tmpfs of its own, mounted with huge=always in a private mount namespace (unshare(CLONE_NEWNS)):
// a fresh mapping of a model then costs 0.3 ms of page faults instead of 18 to 38, and nothing is left behind however the agent dies.
// Executors are the agent's children and inherit the namespace, so create() runs before they are spawned, in the thread that will
// spawn them, and before other threads start (those would stay in the old namespace). Elsewhere: a file in `directory`,
// unlinked on destruction; what a killed agent of the same name left is removed by the next create().
//
// reset(), set_failed(), clear_failed(), publish(), bytes(): any thread, but one at a time per word.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "cache/format.h"

namespace cenote::cache {

struct HostCacheOptions {
  std::string directory = "/dev/shm";  // A tmpfs; where a private one cannot be mounted.
  std::string name;                    // Unique per cluster and agent on this host: letters, digits, '-', '_', '.'.
  uint64_t data_bytes = 0;             // Rounded down to 2 MiB.
  Incarnation incarnation = 0;
  // Where the private tmpfs is mounted: a directory, made if absent, seen mounted only by the agent and its executors. Empty: a
  // file in `directory` also as root (the mount changes the whole process, so unit tests of others leave it out).
  std::string mount_point;
};

class HostCache {
 public:
  // kResourceExhausted: `data_bytes` is more than the tmpfs may hold; names both and the setting. kPermissionDenied and the like
  // from the file system. kAlreadyExists: a live agent of the same name has it.
  static absl::StatusOr<std::unique_ptr<HostCache>> create(const HostCacheOptions& options);
  ~HostCache();
  HostCache(const HostCache&) = delete;
  HostCache& operator=(const HostCache&) = delete;

  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t data_bytes() const { return data_bytes_; }
  uint32_t word_count() const { return word_count_; }
  // "" or what is worse than it could be, for MemberReport::notes.
  const std::string& note() const { return note_; }

  // All blocks' memory; offset 0 is CacheExtent::offset_bytes 0.
  std::span<std::byte> data() const { return data_; }

  // Gives the slot to another block (or the same, emptied): no chunk is there, new generation.
  void reset(uint32_t word);
  // Takes the slot away: waiters fail with kUnavailable.
  void retire(uint32_t word);
  // Chunks `mask` of the block have arrived and match; its bytes were written before. `all` is the block's full mask.
  // Returns whether somebody was woken.
  bool publish(uint32_t word, uint32_t mask, uint32_t all);
  void set_failed(uint32_t word);
  void clear_failed(uint32_t word);
  uint32_t chunks(uint32_t word) const;

  // Makes the kernel allocate (and zero) the pages of [begin, end) of data() now, so that a fetch into them pays only for its bytes.
  // Any thread. Stops quietly where memory runs out; the fetch then says so.
  void populate(uint64_t begin, uint64_t end);

 private:
  HostCache() = default;
  absl::Status mount_private(const HostCacheOptions& options);
  absl::Status open_file(const HostCacheOptions& options);
  absl::Status map_file(Incarnation incarnation);
  void wake(uint32_t word);

  struct Shared;  // Boost's objects.
  std::unique_ptr<Shared> shared_;
  std::string path_;
  std::string note_;
  bool shared_directory_ = false;  // Not on a tmpfs of our own: unlink at the end.
  int fd_ = -1;                    // Holds the lock that says the agent lives.
  uint64_t file_bytes_ = 0;
  uint64_t data_bytes_ = 0;
  uint32_t word_count_ = 0;
  Word* words_ = nullptr;
  Waiters* waiters_ = nullptr;
  std::span<std::byte> data_;
};

}  // namespace cenote::cache
