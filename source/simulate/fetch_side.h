// simulate/fetch_side.h - the agent's fetcher on virtual time: load/fetch_queue.h and load/server_table.h as they are, joined as
// load/fetch_loop.cc and bin/agent_grants.h join them, over the simulated fabric and cache.
#pragma once

#include <functional>
#include <memory>
#include <set>

#include "load/fetch_queue.h"
#include "load/server_table.h"
#include "simulate/fabric.h"
#include "simulate/host_cache.h"

namespace cenote::simulate {

class FetchSide {
 public:
  FetchSide(Process& agent, std::shared_ptr<HostCache> cache, Duration read_timeout, std::function<void(FetchResult)> on_done);

  void set_servers(const std::vector<MemoryServerInfo>& servers);
  void add(FetchJob job);
  void cancel(uint64_t job) { queue_.cancel(job); }
  void promote(uint64_t job) { queue_.promote(job); }
  void want(const Digest& block, uint32_t chunks) { queue_.want(block, chunks); }
  void step(Instant now);
  Instant due(Instant now) const;
  bool idle() const { return queue_.idle() && flying_.empty(); }
  uint64_t corrupt_chunks() const { return corrupt_chunks_; }

 private:
  void post(Instant now);
  bool poll(Instant now);
  void check(const load::FetchQueue::Read& read, uint32_t chunks);
  bool check_kept();
  uint32_t matching(const FetchBlock& block, uint32_t chunks) const;
  void ask_grants(Instant now);
  void lose(const std::string& server, Instant now, std::string_view why);
  void reopen_reads(const std::string& server);
  void mark_given_up();

  Process& agent_;
  const std::shared_ptr<HostCache> cache_;
  const Duration read_timeout_;
  const std::function<void(FetchResult)> on_done_;
  SimulatedTransport transport_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  load::FetchQueue queue_;
  load::ServerTable servers_;
  std::set<std::string> known_;                           // Servers that may be asked.
  struct Flying {
    load::FetchQueue::Read read;
    Instant posted_at;
  };
  std::map<fabric::Tag, Flying> flying_;
  fabric::Tag next_tag_ = 1;
  std::set<std::string> needed_;
  Instant deferred_until_;
  Instant expire_at_ = Instant::infinite_future();
  uint64_t corrupt_chunks_ = 0;
};

}  // namespace cenote::simulate
