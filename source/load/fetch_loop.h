// load/fetch_loop.h - what the fetcher's thread does; included by fetcher.cc and fetch_loop.cc only.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "load/fetcher.h"
#include "load/pace.h"

namespace cenote::load {

struct Fetcher::Loop {
  Loop(fabric::Transport& transport, cache::HostCache& cache, const FetcherOptions& options, const FetcherCallbacks& callbacks);
  ~Loop();

  // The cache, and where probes read to.
  absl::Status register_memory();
  // One round: posts, polls, checks, reports. Returns whether anything happened.
  bool step(Instant now);
  Instant next_due(Instant now) const;
  // A server failed: back off from it.
  void lose(const std::string& server, Instant now, std::string_view why);
  // Waiters of blocks that were given up are told. Before one of them is fetched anew: later would fail those who wait for that.
  void mark_given_up();
  // Its endpoint is closed: what flew there is read again.
  void reopen_reads(const std::string& server);

  fabric::Transport& transport;
  cache::HostCache& cache;
  const FetcherOptions& options;
  const FetcherCallbacks& callbacks;
  std::unique_ptr<fabric::MemoryRegion> region;
  FetchQueue queue;
  ServerTable servers;
  Pace pace;
  FetcherStats stats;

 private:
  struct Landed {
    FetchQueue::Read read;
    uint32_t check;
  };
  struct Flying {
    FetchQueue::Read read;
    Instant posted_at;
  };
  ServerSeen& seen(const std::string& server);
  void post(Instant now);
  void ask_grants(Instant now);
  bool poll(Instant now);
  void check(const Landed& landed);
  // One kept block, so that the link is looked at in between. False: there is none.
  bool check_kept();
  uint32_t matching(const FetchBlock& block, uint32_t chunks) const;
  bool watch(Instant now);  // True: a server fell silent.
  void report();

  alignas(64) std::array<std::byte, 64> scratch_{};  // Where probes' bytes go; nobody looks at them.
  std::unique_ptr<fabric::MemoryRegion> scratch_region_;
  std::map<fabric::Tag, Flying> flying_;
  fabric::Tag next_tag_ = 1;
  Instant deferred_until_;  // The transport was full.
  Instant expire_at_;
  std::set<std::string> needed_;
  std::vector<Landed> landed_;
};

}  // namespace cenote::load
