#include "load/fetcher.h"

#include "base/log.h"
#include "base/status.h"
#include "load/fetch_loop.h"

namespace cenote::load {

absl::StatusOr<std::unique_ptr<Fetcher>> Fetcher::start(std::unique_ptr<fabric::Transport> transport, cache::HostCache& cache,
                                                        FetcherOptions options, FetcherCallbacks callbacks) {
  CENOTE_CHECK(options.reads_in_flight > 0 && options.limits.read_bytes % kChunkBytes == 0 && options.limits.read_bytes > 0);
  std::unique_ptr<Fetcher> fetcher(new Fetcher(std::move(transport), cache, std::move(options), std::move(callbacks)));
  std::unique_lock lock(fetcher->mutex_);
  fetcher->started_.wait(lock, [&] { return fetcher->start_status_.has_value(); });  // No deadline: the thread says first of all whether it runs.
  const absl::Status status = *fetcher->start_status_;
  lock.unlock();
  if (!status.ok()) return status;
  return fetcher;
}

Fetcher::Fetcher(std::unique_ptr<fabric::Transport> transport, cache::HostCache& cache, FetcherOptions options,
                 FetcherCallbacks callbacks)
    : cache_(cache), options_(std::move(options)), callbacks_(std::move(callbacks)), waker_(transport.get()) {
  thread_ = std::thread([this, owned = std::move(transport)]() mutable { run(std::move(owned)); });
}

Fetcher::~Fetcher() { stop(); }

void Fetcher::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (!ended_) waker_->wake();
  }
  thread_.join();  // No deadline: it was woken to stop.
}

void Fetcher::tell(std::function<void(Loop&)> command) {
  const std::lock_guard lock(mutex_);
  commands_.push_back(std::move(command));
  if (!ended_) waker_->wake();
}

void Fetcher::set_servers(std::vector<MemoryServerInfo> servers) {
  tell([servers = std::move(servers)](Loop& loop) {
    for (const std::string& gone : loop.servers.set(servers)) loop.reopen_reads(gone);
  });
}

void Fetcher::avoid(std::set<std::string> servers) {
  tell([servers = std::move(servers)](Loop& loop) { loop.servers.avoid(servers); });
}

void Fetcher::add(FetchJob job) {
  tell([job = std::move(job)](Loop& loop) mutable {
    loop.mark_given_up();
    for (FetchBlock& block : job.blocks) {
      CENOTE_CHECK(block.extent.offset_bytes + block.ref.size_bytes <= loop.cache.data_bytes());
      block.have = loop.cache.chunks(block.extent.word) & all_chunks(block.ref.size_bytes);
      loop.cache.clear_failed(block.extent.word);
    }
    loop.queue.add(std::move(job));
  });
}

void Fetcher::cancel(uint64_t job) {
  tell([job](Loop& loop) { loop.queue.cancel(job); });
}

void Fetcher::promote(uint64_t job) {
  tell([job](Loop& loop) { loop.queue.promote(job); });
}

void Fetcher::want(const Digest& block, uint32_t chunks) {
  tell([block, chunks](Loop& loop) { loop.queue.want(block, chunks); });
}

void Fetcher::granted(std::string server, Instant sent_at, absl::StatusOr<Grant> grant) {
  tell([server = std::move(server), sent_at, grant = std::move(grant)](Loop& loop) {
    const Instant now = monotonic_now();
    const absl::Status status = loop.servers.granted(server, sent_at, grant, now);
    if (!status.ok()) loop.lose(server, now, to_std(status.message()));
  });
}

FetcherStats Fetcher::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Fetcher::run(std::unique_ptr<fabric::Transport> transport) {
  {
    Loop loop(*transport, cache_, options_, callbacks_);
    const absl::Status registered = loop.register_memory();
    {
      const std::lock_guard lock(mutex_);
      start_status_ = registered;
    }
    started_.notify_all();
    while (registered.ok()) {
      std::vector<std::function<void(Loop&)>> commands;
      {
        const std::lock_guard lock(mutex_);
        if (stop_) break;
        commands.swap(commands_);
        stats_ = loop.stats;
      }
      for (auto& command : commands) command(loop);
      const Instant now = monotonic_now();
      if (loop.step(now) || !commands.empty()) continue;
      transport->wait(std::max(Duration{}, loop.next_due(now) - monotonic_now()));
    }
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  transport.reset();
}

}  // namespace cenote::load
