// load/fetcher.h - the agent's fetch engine: one thread that owns a Transport and fills the host's cache.
//
// Predicted: a model of B bytes over a link of W arrives after grant + B / W + the check of the last read. ResNet-152 (241 MB), BERT-base
// (438 MB), GPT-2 (498 MB): 241, 438, 498 ms at 1 GB/s; 80, 146, 166 ms at the 3 GB/s of loopback tcp. XXH3 at 26 GB/s adds 4 % of a core at
// 1 GB/s and, being done while later reads fly, 40 us (1 MiB) to the end. Reads: whole chunks, 1 MiB, 4 in flight; more adds latency only.
//
// Each chunk is checked as it arrives, published, and its waiters woken. So is what the cache kept from an earlier use, between reads: a
// cached ResNet-152, BERT-base, GPT-2 in 9, 17, 19 ms of this thread. A corrupt chunk is read again from another replica, counted
// and named in the log. A read past its deadline or broken closes the server's endpoint; its reads go to another replica, the server is
// tried later with back-off. Grants are asked for in batches through `ask_grant` and renewed before they end. `link_gb_per_s`
// paces reads to model a slower link. The thread sleeps in Transport::wait(), it never spins.
//
// Thread-safe. Callbacks run on the fetcher's thread and must not block or destroy the Fetcher.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "cache/host_cache.h"
#include "fabric/transport.h"
#include "load/fetch_queue.h"
#include "load/server_table.h"
#include "message/fetch.h"
#include "message/member.h"

namespace cenote::load {

struct FetcherOptions {
  FetchLimits limits;
  ServerLimits servers;
  uint32_t reads_in_flight = 4;   // All servers together.
  double link_gb_per_s = 0;       // 0: not paced.
};

struct FetcherCallbacks {
  // Ask this server for read grants; answer through granted(), always.
  std::function<void(const std::string& server, std::vector<Digest> blocks)> ask_grant;
  std::function<void(FetchResult)> on_done;
  std::function<void(DoubtfulReplica)> on_doubt;  // Bytes of this block came wrong from there.
};

struct FetcherStats {
  uint64_t fetched_bytes = 0;
  uint64_t corrupt_chunks = 0;
  uint64_t reads = 0;
  uint64_t failed_reads = 0;
  uint64_t suspected = 0;    // Servers that fell silent with reads in flight.
  std::map<std::string, ServerSeen> seen;  // Each server that was read from.
  StallCount stalls;         // Of this thread.
};

class Fetcher {
 public:
  // The cache must outlive it. kResourceExhausted: the cache cannot be registered (says the limit).
  static absl::StatusOr<std::unique_ptr<Fetcher>> start(std::unique_ptr<fabric::Transport> transport, cache::HostCache& cache,
                                                        FetcherOptions options, FetcherCallbacks callbacks);
  ~Fetcher();  // stop()s.
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  void set_servers(std::vector<MemoryServerInfo> servers);
  void avoid(std::set<std::string> servers);  // ServerTable::avoid().
  void add(FetchJob job);
  void cancel(uint64_t job);
  void promote(uint64_t job);
  void want(const Digest& block, uint32_t chunks);
  // `sent_at`: when the request left.
  void granted(std::string server, Instant sent_at, absl::StatusOr<Grant> grant);
  FetcherStats stats() const;
  // Drops what is under way; no callback comes after it, and what it is told is ignored. Idempotent; from the owner's thread.
  void stop();

 private:
  struct Loop;
  Fetcher(std::unique_ptr<fabric::Transport> transport, cache::HostCache& cache, FetcherOptions options, FetcherCallbacks callbacks);
  void tell(std::function<void(Loop&)> command);
  void run(std::unique_ptr<fabric::Transport> transport);

  cache::HostCache& cache_;
  const FetcherOptions options_;
  const FetcherCallbacks callbacks_;
  fabric::Transport* waker_;  // Only for wake().
  mutable std::mutex mutex_;
  std::condition_variable started_;
  std::optional<absl::Status> start_status_;
  std::vector<std::function<void(Loop&)>> commands_;
  bool stop_ = false;
  bool ended_ = false;        // The transport is gone: waker_ must not be used.
  FetcherStats stats_;
  std::thread thread_;
};

}  // namespace cenote::load
