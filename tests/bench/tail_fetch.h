// tests/bench/tail_fetch.h - what tail_bench measures: the agent's fetcher (load/fetcher.h), as it is, over memory servers of this process,
// each with a thread that serves, their reads delayed by a plan and timed one by one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cache/host_cache.h"
#include "fabric/faulty/faulty.h"
#include "load/fetcher.h"

namespace cenote::bench {

// One region that others may read, and the thread that serves it.
class TailServer {
 public:
  TailServer(std::string name, const std::string& provider, std::span<std::byte> arena);
  ~TailServer();
  TailServer(const TailServer&) = delete;
  const MemoryServerInfo& info() const { return info_; }
  fabric::Address address() const { return {.provider = info_.fabric_provider, .bytes = info_.fabric_address}; }
  fabric::RegionKey key() const { return key_; }

 private:
  std::unique_ptr<fabric::Transport> transport_;
  MemoryServerInfo info_;
  fabric::RegionKey key_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// From the post of a read to the poll that hands its completion to the fetcher.
struct ReadTime {
  Instant posted;
  Instant ended;
  Duration took() const { return ended - posted; }
};
class ReadTimes;  // Filled by the fetcher's thread.

// The servers, one arena of blocks that all of them hold, and the cache that is fetched into.
class TailPool {
 public:
  TailPool(const std::string& provider, size_t servers, uint64_t bytes);
  ~TailPool();
  TailPool(const TailPool&) = delete;

  const std::string provider;
  std::vector<std::byte> arena;
  std::vector<std::unique_ptr<TailServer>> servers;
  std::filesystem::path directory;
  std::unique_ptr<cache::HostCache> cache;
  std::vector<FetchBlock> blocks;    // Of two servers each, which take turns at being first, as policy/assign.h has it.
};

struct Fetched {
  Duration took;                     // From add() to on_done().
  std::vector<ReadTime> reads;       // In the order they were posted.
};

// One fetcher. The pool must outlive it; one fetches at a time.
class TailFetcher {
 public:
  TailFetcher(TailPool& pool, const load::FetcherOptions& options);
  ~TailFetcher();
  // The first `bytes` of the pool, none of which is there.
  Fetched fetch(uint64_t bytes, const fabric::FaultPlan& plan);
  load::FetcherStats stats() const { return fetcher_->stats(); }

 private:
  TailPool& pool_;
  std::shared_ptr<ReadTimes> times_;
  fabric::FaultyTransport* faulty_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<FetchResult> result_;
  Instant done_at_;
  uint64_t job_ = 0;
  std::unique_ptr<load::Fetcher> fetcher_;
};

}  // namespace cenote::bench
