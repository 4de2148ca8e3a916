#include "fabric/local_address.h"
#include "send_blocks.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "wire/memory_client.h"

namespace cenote::native {
namespace {

constexpr Duration kOpenTimeout = Duration::from_seconds(15);
// Hashing and copying 64 MiB on a machine whose cores others hold.
constexpr Duration kSealTimeout = Duration::from_seconds(60);
constexpr Duration kAbandonTimeout = Duration::from_seconds(2);

class RemoteSlabs : public SlabServer {
 public:
  RemoteSlabs(wire::MemoryClient& client, wire::Cancellation& cancellation) : client_(client), cancellation_(cancellation) {}
  absl::StatusOr<SlabInfo> open(uint64_t size_bytes, const std::string& writer) override {
    return client_.open_slab(size_bytes, writer, kOpenTimeout, &cancellation_);
  }
  absl::StatusOr<SealResult> seal(const SlabInfo& slab, const std::vector<SealRange>& ranges) override {
    return client_.seal_slab(slab, ranges, kSealTimeout, &cancellation_);
  }
  void abandon(const SlabInfo& slab) override { client_.abandon_slab(slab, kAbandonTimeout).IgnoreError(); }

 private:
  wire::MemoryClient& client_;
  wire::Cancellation& cancellation_;
};

absl::StatusOr<WriteResult> send_share(const wire::Identity& identity, const ServerShare& share, const WriteOptions& options,
                                       const Progress& progress, wire::Cancellation& cancellation) {
  CENOTE_ASSIGN_OR_RETURN(std::string local, fabric::local_address_towards(share.server.control_address));
  CENOTE_ASSIGN_OR_RETURN(const auto transport, fabric::open_transport({.provider = share.server.fabric_provider, .bind_address = std::move(local)}));
  const auto client = wire::MemoryClient::open(share.server.control_address, identity);
  RemoteSlabs slabs(*client, cancellation);
  return write_blocks(*transport, slabs, share.blocks, options, progress);
}

}  // namespace

absl::StatusOr<WriteResult> send_blocks(const wire::Identity& identity, std::vector<ServerShare> shares, const WriteOptions& options,
                                        const Progress& progress) {
  std::mutex mutex;
  std::condition_variable finished;
  absl::Status first_error;
  WriteResult total;
  size_t running = shares.size();
  std::atomic<bool> stop{false};
  std::vector<std::atomic<uint64_t>> sent(shares.size());
  wire::Cancellation cancellation;
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < shares.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto count = [&, i](uint64_t bytes) {
        sent[i] = bytes;
        return !stop.load();
      };
      const auto result = send_share(identity, shares[i], options, count, cancellation);
      const std::lock_guard lock(mutex);
      if (result.ok()) {
        total.written_bytes += result->written_bytes;
        total.deduplicated_bytes += result->deduplicated_bytes;
      } else if (first_error.ok()) {
        first_error = annotate(result.status(), shares[i].server.name);
      }
      --running;
      finished.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  while (!finished.wait_for(lock, std::chrono::milliseconds(50), [&] { return running == 0; })) {
    const bool failed = !first_error.ok();
    lock.unlock();
    uint64_t bytes = 0;
    for (const auto& one : sent) bytes += one;
    if (failed || (progress && !progress(bytes))) {
      stop = true;
      cancellation.cancel();
    }
    lock.lock();
  }
  lock.unlock();
  threads.clear();
  if (!first_error.ok()) return first_error;
  if (progress && !progress(total.written_bytes)) return absl::CancelledError("the deploy was interrupted");
  return total;
}

}  // namespace cenote::native
