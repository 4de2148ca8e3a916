#include "tail_fetch.h"

#include <array>
#include <cstring>
#include <future>
#include <map>

#include "base/hash.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/units.h"

namespace cenote::bench {

// ---- servers ---------------------------------------------------------------------------------------------------------------
TailServer::TailServer(std::string name, const std::string& provider, std::span<std::byte> arena) {
  auto transport = fabric::open_transport({.provider = provider});
  CENOTE_CHECK(transport.ok());
  transport_ = *std::move(transport);
  const fabric::Address address = transport_->address();
  info_ = {.name = std::move(name), .control_address = {}, .fabric_provider = address.provider, .fabric_address = address.bytes, .incarnation = 1};
  std::promise<fabric::RegionKey> key;
  thread_ = std::thread([this, &key, arena] {
    auto region = transport_->register_memory(arena, fabric::Access::kRemoteRead);
    CENOTE_CHECK(region.ok());
    key.set_value((*region)->key());
    std::array<fabric::Completion, 8> completions;
    while (!stop_) {
      transport_->poll(completions);
      transport_->wait(Duration::from_seconds(1));
    }
  });
  key_ = key.get_future().get();
}

TailServer::~TailServer() {
  stop_ = true;
  transport_->wake();
  thread_.join();
}

TailPool::TailPool(const std::string& provider, size_t count, uint64_t bytes) : provider(provider), arena(bytes) {
  Rng rng(1);
  for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
    const uint64_t word = rng.next();
    std::memcpy(arena.data() + i, &word, sizeof word);
  }
  for (size_t i = 0; i < count; ++i) servers.push_back(std::make_unique<TailServer>(str_cat("memory-", i), provider, arena));
  std::string pattern = "/dev/shm/cenote-tail-XXXXXX";
  CENOTE_CHECK(mkdtemp(pattern.data()) != nullptr);
  directory = pattern;
  auto made = cache::HostCache::create({.directory = directory, .name = "tail", .data_bytes = bytes, .mount_point = {}});
  CENOTE_CHECK(made.ok());
  cache = *std::move(made);
  cache->populate(0, bytes);
  for (uint64_t offset = 0; offset < bytes; offset += kBlockBytesMax) {
    const auto number = static_cast<uint32_t>(blocks.size());
    FetchBlock block{.ref = {.id = sha256(std::as_bytes(std::span(&offset, 1))), .size_bytes = kBlockBytesMax},
                     .extent = {.offset_bytes = offset, .size_bytes = kBlockBytesMax, .word = number},
                     .chunk_sums = {},
                     .replicas = {servers[number % count]->info().name, servers[(number + 1) % count]->info().name}};
    for (uint64_t at = 0; at < kBlockBytesMax; at += kChunkBytes) block.chunk_sums.push_back(xxh3_64(std::span(arena).subspan(offset + at, kChunkBytes)));
    blocks.push_back(std::move(block));
  }
}

TailPool::~TailPool() {
  cache.reset();
  std::filesystem::remove_all(directory);
}

// ---- reads -----------------------------------------------------------------------------------------------------------------
class ReadTimes {
 public:
  void posted(fabric::Tag tag) {
    const std::lock_guard lock(mutex_);
    flying_.emplace(tag, times_.size());
    times_.push_back({.posted = monotonic_now(), .ended = {}});
  }
  void ended(fabric::Tag tag) {
    const std::lock_guard lock(mutex_);
    const auto read = flying_.extract(tag);
    if (!read.empty()) times_[read.mapped()].ended = monotonic_now();
  }
  // Of a fetch that is over.
  std::vector<ReadTime> take() {
    const std::lock_guard lock(mutex_);
    flying_.clear();
    std::erase_if(times_, [](const ReadTime& time) { return time.ended == Instant{}; });
    return std::exchange(times_, {});
  }

 private:
  std::mutex mutex_;
  std::map<fabric::Tag, size_t> flying_;
  std::vector<ReadTime> times_;
};

namespace {

class TimedEndpoint final : public fabric::Endpoint {
 public:
  TimedEndpoint(std::unique_ptr<fabric::Endpoint> inner, std::shared_ptr<ReadTimes> times) : inner_(std::move(inner)), times_(std::move(times)) {}
  absl::Status read(fabric::RemoteSpan source, fabric::LocalSpan target, fabric::Tag tag, Instant deadline) override {
    const absl::Status status = inner_->read(source, target, tag, deadline);
    if (status.ok() && target.size_bytes >= kChunkBytes) times_->posted(tag);  // Not probes.
    return status;
  }
  absl::Status write(fabric::RemoteSpan target, fabric::LocalSpan source, fabric::Tag tag, Instant deadline) override {
    return inner_->write(target, source, tag, deadline);
  }
  bool broken() const override { return inner_->broken(); }
  size_t in_flight() const override { return inner_->in_flight(); }

 private:
  std::unique_ptr<fabric::Endpoint> inner_;
  std::shared_ptr<ReadTimes> times_;
};

class TimedTransport final : public fabric::Transport {
 public:
  TimedTransport(std::unique_ptr<fabric::Transport> inner, std::shared_ptr<ReadTimes> times) : inner_(std::move(inner)), times_(std::move(times)) {}
  std::string provider() const override { return inner_->provider(); }
  fabric::Address address() const override { return inner_->address(); }
  absl::StatusOr<std::unique_ptr<fabric::MemoryRegion>> register_memory(std::span<std::byte> bytes, fabric::Access access) override {
    return inner_->register_memory(bytes, access);
  }
  absl::StatusOr<std::unique_ptr<fabric::Endpoint>> connect(const fabric::Address& peer) override {
    CENOTE_ASSIGN_OR_RETURN(auto inner, inner_->connect(peer));
    return std::make_unique<TimedEndpoint>(std::move(inner), times_);
  }
  size_t poll(std::span<fabric::Completion> completions) override {
    const size_t count = inner_->poll(completions);
    for (size_t i = 0; i < count; ++i) times_->ended(completions[i].tag);
    return count;
  }
  void wait(Duration at_most) override { inner_->wait(at_most); }
  void wake() override { inner_->wake(); }
  uint64_t transfer_bytes_max() const override { return inner_->transfer_bytes_max(); }

 private:
  std::unique_ptr<fabric::Transport> inner_;
  std::shared_ptr<ReadTimes> times_;
};

}  // namespace

// ---- fetches ---------------------------------------------------------------------------------------------------------------
TailFetcher::TailFetcher(TailPool& pool, const load::FetcherOptions& options) : pool_(pool), times_(std::make_shared<ReadTimes>()) {
  auto transport = fabric::open_transport({.provider = pool.provider});
  CENOTE_CHECK(transport.ok());
  auto faulty = std::make_unique<fabric::FaultyTransport>(*std::move(transport), fabric::FaultPlan{});
  faulty_ = faulty.get();
  const auto grant = [this](const std::string& name, const std::vector<Digest>& ids) {
    const auto server = std::find_if(pool_.servers.begin(), pool_.servers.end(), [&](const auto& one) { return one->info().name == name; });
    const fabric::RegionKey key = (*server)->key();
    Grant grant{.incarnation = 1, .region_key = key.key, .region_base = key.base, .duration = Duration::from_seconds(60)};
    for (const FetchBlock& block : pool_.blocks) {
      if (std::find(ids.begin(), ids.end(), block.ref.id) == ids.end()) continue;
      grant.blocks.push_back({.id = block.ref.id, .offset_bytes = block.extent.offset_bytes, .size_bytes = block.ref.size_bytes});
    }
    fetcher_->granted(name, monotonic_now(), std::move(grant));
  };
  const auto done = [this](FetchResult result) {
    const std::lock_guard lock(mutex_);
    done_at_ = monotonic_now();
    result_ = std::move(result);
    changed_.notify_all();
  };
  auto fetcher = load::Fetcher::start(std::make_unique<TimedTransport>(std::move(faulty), times_), *pool.cache, options,
                                      {.ask_grant = grant, .on_done = done, .on_doubt = [](const DoubtfulReplica&) {}});
  CENOTE_CHECK(fetcher.ok());
  fetcher_ = *std::move(fetcher);
  std::vector<MemoryServerInfo> infos;
  for (const auto& server : pool.servers) infos.push_back(server->info());
  fetcher_->set_servers(infos);
}

TailFetcher::~TailFetcher() { fetcher_.reset(); }  // First: its callbacks use the rest.

Fetched TailFetcher::fetch(uint64_t bytes, const fabric::FaultPlan& plan) {
  faulty_->set_plan(plan);
  FetchJob job{.id = ++job_, .revision = {}, .urgent = true, .blocks = {}, .grant_ahead = {}};
  for (const FetchBlock& block : pool_.blocks) {
    if (block.extent.offset_bytes >= bytes) break;
    pool_.cache->reset(block.extent.word);
    job.blocks.push_back(block);
  }
  times_->take();
  const Instant begin = monotonic_now();
  fetcher_->add(std::move(job));
  std::unique_lock lock(mutex_);
  CENOTE_CHECK(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return result_.has_value(); }));
  CENOTE_CHECK(result_->status.ok() && result_->refetched == 0);
  result_.reset();
  return {.took = done_at_ - begin, .reads = times_->take()};
}

}  // namespace cenote::bench
