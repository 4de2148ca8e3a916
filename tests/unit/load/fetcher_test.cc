// Goal: over real transports that corrupt, fall silent and die, the cache ends up with exactly the servers' bytes or the job says why not.
#include <atomic>
#include <filesystem>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "base/hash.h"
#include "base/rng.h"
#include "cache/mapping.h"
#include "fabric/faulty/faulty.h"
#include "fabric/loopback/loopback.h"
#include "load/fetcher.h"

namespace cenote::load {
namespace {

using std::chrono::seconds;

// A memory server: one region that others may read, and the thread that serves them.
class Server {
 public:
  Server(std::string name, std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {
    transport_ = *fabric::open_loopback({.provider = "loopback"});
    info_ = {.name = std::move(name),
             .fabric_provider = transport_->address().provider,
             .fabric_address = transport_->address().bytes,
             .incarnation = 1};
    std::promise<fabric::RegionKey> key;
    thread_ = std::thread([this, &key] {
      auto region = *transport_->register_memory(bytes_, fabric::Access::kRemoteRead);
      key.set_value(region->key());
      std::array<fabric::Completion, 8> completions;
      while (!stop_) {
        transport_->poll(completions);
        transport_->wait(Duration::from_ms(50));
      }
      region.reset();
    });
    key_ = key.get_future().get();
  }
  ~Server() {
    stop_ = true;
    transport_->wake();
    thread_.join();
  }
  const MemoryServerInfo& info() const { return info_; }
  fabric::Address address() const { return {.provider = info_.fabric_provider, .bytes = info_.fabric_address}; }
  Grant grant(std::span<const BlockGrant> held, const std::vector<Digest>& asked) const {
    Grant grant{.incarnation = incarnation, .region_key = key_.key, .region_base = key_.base, .duration = grant_duration};
    for (const Digest& id : asked) {
      const auto found = std::find_if(held.begin(), held.end(), [&](const BlockGrant& b) { return b.id == id; });
      if (found != held.end() && !holds_nothing) {
        if (grant.blocks.size() < at_most) grant.blocks.push_back(*found);
      } else {
        grant.missing.push_back(id);
      }
    }
    return grant;
  }
  std::atomic<Incarnation> incarnation = 1;
  std::atomic<bool> holds_nothing = false;
  std::atomic<size_t> at_most = SIZE_MAX;  // Blocks of one grant; the others are left out, as by one that reads them back from its disk.
  std::atomic<int> grants = 0;
  Duration grant_duration = Duration::from_seconds(10);

 private:
  std::vector<std::byte> bytes_;
  std::unique_ptr<fabric::Transport> transport_;
  MemoryServerInfo info_;
  fabric::RegionKey key_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class FetcherTest : public testing::Test {
 protected:
  static constexpr uint32_t kBlocks = 12;

  void SetUp() override {
    char pattern[] = "/dev/shm/cenote-fetch-test-XXXXXX";
    directory_ = mkdtemp(pattern);
    auto cache = cache::HostCache::create({.directory = directory_, .name = "t", .data_bytes = 64 * kMiB});
    ASSERT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    // Blocks of all lengths, one after the other in a server's region.
    Rng rng(3);
    for (uint32_t i = 0; i < kBlocks; ++i) {
      const auto size = static_cast<uint32_t>(i % 3 == 0 ? kBlockBytesMax : 1 + rng.below(kBlockBytesMax));
      const uint64_t offset = arena_.size();
      arena_.resize(offset + round_up(size, 4096));
      for (uint64_t b = offset; b + 8 <= arena_.size(); b += 8) {
        const uint64_t word = rng.next();
        std::memcpy(arena_.data() + b, &word, 8);
      }
      const auto bytes = std::span<const std::byte>(arena_).subspan(offset, size);
      const Digest id = sha256(bytes);
      held_.push_back({.id = id, .offset_bytes = offset, .size_bytes = size});
      blocks_.push_back({.ref = {.id = id, .size_bytes = size},
                         .extent = {.offset_bytes = cache_offset_, .size_bytes = size, .word = i},
                         .replicas = {"a", "b"}});
      for (uint64_t c = 0; c < size; c += kChunkBytes) {
        blocks_.back().chunk_sums.push_back(xxh3_64(bytes.subspan(c, std::min<uint64_t>(kChunkBytes, size - c))));
      }
      cache_offset_ += round_up(size, 4096);
      cache_->reset(i);
    }
  }

  void TearDown() override {
    fetcher_.reset();
    servers_.clear();
    cache_.reset();
    std::filesystem::remove_all(directory_);
  }

  void start(std::vector<std::string> names, fabric::FaultPlan plan = {}, FetcherOptions options = {}) {
    std::vector<MemoryServerInfo> infos;
    for (const std::string& name : names) {
      servers_[name] = std::make_unique<Server>(name, arena_);
      infos.push_back(servers_[name]->info());
    }
    auto faulty = std::make_unique<fabric::FaultyTransport>(*fabric::open_loopback({.provider = "loopback"}), std::move(plan));
    faulty_ = faulty.get();
    auto fetcher = Fetcher::start(std::move(faulty), *cache_, options,
                                  {.ask_grant =
                                       [this](const std::string& server, std::vector<Digest> ids) {
                                         Server& from = *servers_.at(server);
                                         ++from.grants;
                                         if (grant_delay_.ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(grant_delay_.ns));
                                         fetcher_->granted(server, monotonic_now(), from.grant(held_, ids));
                                       },
                                   .on_done =
                                       [this](FetchResult result) {
                                         const std::lock_guard lock(mutex_);
                                         results_[result.job] = std::move(result);
                                         changed_.notify_all();
                                       },
                                   .on_doubt =
                                       [this](DoubtfulReplica replica) {
                                         const std::lock_guard lock(mutex_);
                                         doubtful_.insert(std::move(replica));
                                       }});
    ASSERT_TRUE(fetcher.ok()) << fetcher.status();
    fetcher_ = *std::move(fetcher);
    fetcher_->set_servers(infos);
  }

  FetchResult wait_for(uint64_t job) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(60), [&] { return results_.contains(job); })) << "job " << job << " never ended";
    return results_[job];
  }

  void fetch_beside_a_silent_server(const FetcherOptions& options) {
    start({"a", "b"}, {}, options);
    faulty_->silence_peer(servers_["a"]->address());
    fetcher_->add({.id = 1, .blocks = blocks_});
    const FetchResult result = wait_for(1);
    ASSERT_TRUE(result.status.ok()) << result.status;
    expect_all_there();
  }

  void expect_all_there() {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const FetchBlock& block = blocks_[i];
      EXPECT_EQ(cache_->chunks(block.extent.word), all_chunks(block.ref.size_bytes)) << "block " << i;
      EXPECT_EQ(sha256(cache_->data().subspan(block.extent.offset_bytes, block.ref.size_bytes)), block.ref.id) << "block " << i;
    }
  }

  std::string directory_;
  std::unique_ptr<cache::HostCache> cache_;
  std::vector<std::byte> arena_;
  std::vector<BlockGrant> held_;
  std::vector<FetchBlock> blocks_;
  uint64_t cache_offset_ = 0;
  std::map<std::string, std::unique_ptr<Server>> servers_;
  Duration grant_delay_;
  fabric::FaultyTransport* faulty_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, FetchResult> results_;
  std::set<DoubtfulReplica> doubtful_;
  std::unique_ptr<Fetcher> fetcher_;
};

TEST_F(FetcherTest, blocks_arrive_whole_with_one_grant_and_their_bytes_counted) {
  start({"a", "b"});
  fetcher_->add({.id = 1, .blocks = blocks_});
  const FetchResult result = wait_for(1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  expect_all_there();
  uint64_t bytes = 0;
  for (const FetchBlock& block : blocks_) bytes += block.ref.size_bytes;
  EXPECT_EQ(result.bytes, bytes);
  EXPECT_GT(result.network.ns, 0);
  EXPECT_GT(result.verify.ns, 0);
  EXPECT_EQ(servers_["a"]->grants, 1);
  EXPECT_EQ(servers_["b"]->grants, 0);
}

TEST_F(FetcherTest, a_manifest_is_checked_whole_and_grants_for_the_weights_come_along) {
  start({"a"});
  FetchBlock manifest = blocks_[0];
  manifest.chunk_sums.clear();
  fetcher_->add({.id = 1, .urgent = true, .blocks = {manifest}, .grant_ahead = {blocks_.begin() + 1, blocks_.end()}});
  ASSERT_TRUE(wait_for(1).status.ok());
  fetcher_->add({.id = 2, .urgent = true, .blocks = {blocks_.begin() + 1, blocks_.end()}});
  ASSERT_TRUE(wait_for(2).status.ok());
  expect_all_there();
  EXPECT_EQ(servers_["a"]->grants, 1);
}

TEST_F(FetcherTest, corrupt_chunks_are_fetched_again_and_counted) {
  fabric::FaultPlan plan;
  plan.at[2] = {.kind = fabric::FaultKind::kCorrupt};
  plan.at[5] = {.kind = fabric::FaultKind::kCorrupt};
  start({"a", "b"}, plan);
  fetcher_->add({.id = 1, .blocks = blocks_});
  const FetchResult result = wait_for(1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.refetched, 2u);
  EXPECT_EQ(fetcher_->stats().corrupt_chunks, 2u);
  EXPECT_GT(servers_["b"]->grants, 0);  // The replica gave what came corrupt from a.
  expect_all_there();
}

TEST_F(FetcherTest, corruption_of_a_manifest_is_found_too) {
  fabric::FaultPlan plan;
  plan.at[1] = {.kind = fabric::FaultKind::kCorrupt};
  start({"a", "b"}, plan);
  FetchBlock manifest = blocks_[0];
  manifest.chunk_sums.clear();
  fetcher_->add({.id = 1, .blocks = {manifest}});
  const FetchResult result = wait_for(1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_GT(result.refetched, 0u);
  EXPECT_EQ(sha256(cache_->data().subspan(manifest.extent.offset_bytes, manifest.ref.size_bytes)), manifest.ref.id);
}

TEST_F(FetcherTest, bytes_that_are_always_corrupt_fail_the_job_and_its_waiters) {
  fabric::FaultPlan plan;
  plan.corrupt_chance = 1;
  start({"a", "b"}, plan);
  auto view = *cache::CacheView::open(cache_->path(), cache_->file_bytes());
  absl::Status waited;
  std::thread waiter([&] {
    waited = view->wait(blocks_[0].extent, all_chunks(blocks_[0].ref.size_bytes), monotonic_now() + Duration::from_seconds(60));
  });
  fetcher_->add({.id = 1, .blocks = {blocks_[0]}});
  const FetchResult result = wait_for(1);
  waiter.join();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(waited.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(result.missing.size(), 1u);
  EXPECT_NE(result.status.message().find(blocks_[0].ref.id.short_hex()), std::string::npos);
}

TEST_F(FetcherTest, a_silent_server_costs_one_deadline_and_then_the_replica_serves) {
  FetcherOptions options;
  options.servers.read_timeout = Duration::from_ms(200);
  options.servers.silence_max = Duration::from_seconds(30);  // Even then.
  ASSERT_NO_FATAL_FAILURE(fetch_beside_a_silent_server(options));
  EXPECT_GT(fetcher_->stats().failed_reads, 0u);
}

TEST_F(FetcherTest, a_silent_server_is_noticed_long_before_its_reads_deadline) {
  FetcherOptions options;
  options.servers.read_timeout = Duration::from_seconds(60);
  ASSERT_NO_FATAL_FAILURE(fetch_beside_a_silent_server(options));
  EXPECT_GT(fetcher_->stats().suspected, 0u);
}

TEST_F(FetcherTest, reads_that_are_slow_are_not_taken_for_silence_while_probes_are_answered) {
  fabric::FaultPlan plan;
  for (uint64_t i = 0; i < 4; ++i) plan.at[i] = {.kind = fabric::FaultKind::kDelay, .delay = Duration::from_ms(700)};
  FetcherOptions options;
  options.servers.silence_max = Duration::from_ms(300);  // Of this process's own threads nothing quicker is asked.
  start({"a", "b"}, plan, options);
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
  EXPECT_EQ(fetcher_->stats().suspected, 0u);
  EXPECT_EQ(servers_["b"]->grants, 0);
}

TEST_F(FetcherTest, one_that_is_slow_to_grant_is_left_for_another_and_one_to_avoid_is_asked_last) {
  start({"a", "b"});
  fetcher_->avoid({"a"});
  fetcher_->add({.id = 1, .blocks = {blocks_[0]}});
  ASSERT_TRUE(wait_for(1).status.ok());
  EXPECT_EQ(servers_["a"]->grants, 0);
  fetcher_->avoid({"a", "b"});  // Both: it is no order to do without.
  fetcher_->add({.id = 2, .blocks = blocks_});
  ASSERT_TRUE(wait_for(2).status.ok());
  expect_all_there();
}

TEST_F(FetcherTest, a_server_that_dies_midway_is_replaced_by_its_replica) {
  fabric::FaultPlan plan;
  plan.at[7] = {.kind = fabric::FaultKind::kPeerDeath};
  start({"a", "b"}, plan);
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
}

TEST_F(FetcherTest, without_any_server_the_job_fails_and_works_when_they_are_back) {
  FetcherOptions options;
  options.limits.stall_max = Duration::from_ms(300);
  start({"a", "b"}, {}, options);
  for (const auto& [name, server] : servers_) faulty_->kill_peer(server->address());
  fetcher_->add({.id = 1, .blocks = blocks_});
  const FetchResult result = wait_for(1);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(result.missing.empty());
  for (const auto& [name, server] : servers_) faulty_->revive_peer(server->address());
  for (uint64_t id = 2; id < 100; ++id) {  // Back-off may swallow the first tries.
    fetcher_->add({.id = id, .blocks = blocks_});
    if (wait_for(id).status.ok()) break;
  }
  expect_all_there();
}

TEST_F(FetcherTest, a_grant_that_ends_is_renewed_on_the_way) {
  FetcherOptions options;
  options.link_gb_per_s = 0.04;  // Slower than the grant lasts.
  start({"a"}, {}, options);
  servers_["a"]->grant_duration = Duration::from_ms(150);
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
  EXPECT_GT(servers_["a"]->grants, 1);
  EXPECT_EQ(fetcher_->stats().failed_reads, 0u);
}

TEST_F(FetcherTest, a_grant_of_another_incarnation_is_not_used) {
  start({"a", "b"});
  servers_["a"]->incarnation = 2;
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  EXPECT_GT(servers_["b"]->grants, 0);
  expect_all_there();
}

TEST_F(FetcherTest, a_server_that_lost_its_blocks_is_passed_over) {
  start({"a", "b"});
  servers_["a"]->holds_nothing = true;
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
}

TEST_F(FetcherTest, a_server_that_gives_its_blocks_piece_by_piece_is_asked_again_until_all_are_there) {
  start({"a", "b"});
  servers_["a"]->at_most = 2;
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
  EXPECT_GE(servers_["a"]->grants, static_cast<int>(kBlocks / 2));
  EXPECT_EQ(servers_["b"]->grants, 0) << "it had something new each time";
}

TEST_F(FetcherTest, a_server_that_has_nothing_ready_is_left_alone_for_a_while_and_others_are_asked) {
  start({"a", "b"});
  servers_["a"]->at_most = 0;
  fetcher_->add({.id = 1, .blocks = blocks_});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
  EXPECT_GT(servers_["b"]->grants, 0);
}

TEST_F(FetcherTest, servers_that_never_have_anything_ready_are_not_asked_in_a_busy_loop) {
  FetcherOptions options;
  options.limits.stall_max = Duration::from_ms(1500);
  start({"a", "b"}, {}, options);
  servers_["a"]->at_most = servers_["b"]->at_most = 0;
  fetcher_->add({.id = 1, .blocks = blocks_});
  EXPECT_EQ(wait_for(1).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_LE(servers_["a"]->grants + servers_["b"]->grants, 2 * 17);
}

TEST_F(FetcherTest, a_server_that_leaves_the_list_is_dropped_at_once) {
  FetcherOptions options;
  options.servers.read_timeout = Duration::from_seconds(60);  // Its deadline is not what ends the reads.
  start({"a", "b"}, {}, options);
  faulty_->silence_peer(servers_["a"]->address());
  fetcher_->add({.id = 1, .blocks = blocks_});
  while (faulty_->counts().operations == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  fetcher_->set_servers({servers_["b"]->info()});
  ASSERT_TRUE(wait_for(1).status.ok());
  expect_all_there();
}

TEST_F(FetcherTest, a_cancelled_job_ends_and_leaves_the_others) {
  FetcherOptions options;
  options.link_gb_per_s = 0.02;
  start({"a"}, {}, options);
  fetcher_->add({.id = 1, .blocks = {blocks_.begin(), blocks_.begin() + 6}});
  fetcher_->add({.id = 2, .blocks = {blocks_.begin() + 5, blocks_.begin() + 7}});
  fetcher_->cancel(1);
  EXPECT_EQ(wait_for(1).status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(wait_for(2).status.ok());
}

TEST_F(FetcherTest, a_block_given_up_and_at_once_wanted_by_another_job_does_not_count_as_failed) {
  grant_delay_ = Duration::from_ms(500);  // Holds the fetcher's thread, so that it finds both commands together.
  start({"a"});
  fetcher_->add({.id = 1, .blocks = {blocks_[0]}});
  while (servers_.at("a")->grants == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  fetcher_->cancel(1);
  fetcher_->add({.id = 2, .blocks = {blocks_[0]}});
  EXPECT_EQ(wait_for(1).status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(wait_for(2).status.ok());
  const auto view = cache::CacheView::open(cache_->path(), cache_->file_bytes());
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ((*view)->word(blocks_[0].extent.word) & cache::kFailedBit, 0u);
}

TEST_F(FetcherTest, many_faults_at_once_never_let_a_wrong_byte_through) {
  fabric::FaultPlan plan;
  plan.seed = 42;
  plan.corrupt_chance = 0.1;
  plan.delay_chance = 0.2;
  plan.error_chance = 0.03;
  FetcherOptions options;
  options.limits.read_bytes = kChunkBytes;
  options.servers.backoff_min = Duration::from_ms(1);
  options.servers.backoff_max = Duration::from_ms(20);
  options.limits.corrupt_max = 1000;
  start({"a", "b"}, plan, options);
  fetcher_->add({.id = 1, .blocks = blocks_});
  const FetchResult result = wait_for(1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_GT(result.refetched, 0u);
  expect_all_there();
}

TEST_F(FetcherTest, pacing_is_a_lower_bound_on_time) {
  FetcherOptions options;
  options.link_gb_per_s = 0.1;
  start({"a"}, {}, options);
  fetcher_->add({.id = 1, .blocks = blocks_});
  const FetchResult result = wait_for(1);
  ASSERT_TRUE(result.status.ok());
  // All but the reads in flight and the slack have to be spaced.
  const double expected = (static_cast<double>(result.bytes) - 4.0 * kMiB) / 0.1e9 - 0.005;
  EXPECT_GE(result.network.seconds(), expected);
}

}  // namespace
}  // namespace cenote::load
