// Goal: on every kind of device, a gate opens exactly when the bytes it guards are there, whatever the order of arrival.
#include <filesystem>
#include <gtest/gtest.h>
#include <thread>

#include "base/hash.h"
#include "base/rng.h"
#include "cache/host_cache.h"
#include "load/resident.h"

namespace cenote::load {
namespace {

Instant in(double seconds) { return monotonic_now() + Duration::from_seconds(seconds); }

class ResidentTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    char pattern[] = "/dev/shm/cenote-resident-test-XXXXXX";
    directory_ = mkdtemp(pattern);
    cache_ = *cache::HostCache::create({.directory = directory_, .name = "t", .data_bytes = 64 * kMiB});
    view_ = *cache::CacheView::open(cache_->path(), cache_->file_bytes());
    device_ = *device::open_device({.name = GetParam(), .memory_bytes = 64 * kMiB});
    make_model({3 << 20, 4 << 20, 4096, 100'000, 4 << 20, 1, 2 << 20});
  }
  void TearDown() override {
    resident_.reset();
    device_.reset();
    view_.reset();
    cache_.reset();
    std::filesystem::remove_all(directory_);
  }

  // Weights of random bytes; the manifest lies in the cache, the weights' slots are empty.
  void make_model(const std::vector<uint32_t>& sizes) {
    Rng rng(9);
    uint32_t word = 0;
    uint64_t at = 32 * kMiB;  // Not in the range's order: later blocks lie lower.
    for (const uint32_t size : sizes) {
      at -= round_up(size, kBlockAlignBytes);
      std::vector<std::byte> bytes(size);
      for (auto& byte : bytes) byte = static_cast<std::byte>(rng.next());
      BlockEntry entry{.ref = {.id = sha256(bytes), .size_bytes = size}, .offset_bytes = manifest_.range_bytes(), .chunk_sums = chunk_sums(bytes)};
      manifest_.blocks.push_back(entry);
      acquired_.weights.push_back({.offset_bytes = at, .size_bytes = size, .word = word});
      cache_->reset(word++);
      weights_.push_back(std::move(bytes));
    }
    manifest_.graph = "{}";
    const std::string encoded = encode_manifest(manifest_);
    const CacheExtent extent{.offset_bytes = 40 * kMiB, .size_bytes = static_cast<uint32_t>(encoded.size()), .word = word};
    std::memcpy(cache_->data().data() + extent.offset_bytes, encoded.data(), encoded.size());
    cache_->reset(word);
    cache_->publish(word, all_chunks(extent.size_bytes), all_chunks(extent.size_bytes));
    acquired_.manifest = {extent};
    acquired_.manifest_bytes = encoded.size();
  }

  void map(GroupRule rule = {}, WantCallback want = {}) {
    auto resident = ResidentRevision::map(sha256(as_bytes("revision")), acquired_, *view_, *device_, {.group = rule}, std::move(want));
    ASSERT_TRUE(resident.ok()) << resident.status();
    resident_ = *std::move(resident);
  }

  void arrive(uint32_t block, uint32_t chunks) {
    const CacheExtent& extent = acquired_.weights[block];
    for (uint32_t c = 0; c < chunks_of(extent.size_bytes); ++c) {
      if (!(chunks >> c & 1)) continue;
      const uint64_t offset = c * kChunkBytes;
      std::memcpy(cache_->data().data() + extent.offset_bytes + offset, weights_[block].data() + offset,
                  std::min<uint64_t>(kChunkBytes, extent.size_bytes - offset));
    }
    cache_->publish(extent.word, chunks, all_chunks(extent.size_bytes));
  }
  void arrive(uint32_t block) { arrive(block, all_chunks(acquired_.weights[block].size_bytes)); }

  bool right(uint32_t block, uint64_t begin, uint64_t end) const {
    const auto* base = reinterpret_cast<const std::byte*>(resident_->weights().address) + manifest_.blocks[block].offset_bytes;
    return std::memcmp(base + begin, weights_[block].data() + begin, end - begin) == 0;
  }
  bool right(uint32_t block) const { return right(block, 0, weights_[block].size()); }
  device::ByteRange range_of(uint32_t block) const {
    const BlockEntry& entry = manifest_.blocks[block];
    return {entry.offset_bytes, entry.offset_bytes + entry.ref.size_bytes};
  }

  std::string directory_;
  std::unique_ptr<cache::HostCache> cache_;
  std::unique_ptr<cache::CacheView> view_;
  std::unique_ptr<device::Device> device_;
  Manifest manifest_;
  Acquired acquired_;
  std::vector<std::vector<std::byte>> weights_;
  std::unique_ptr<ResidentRevision> resident_;
};

TEST_P(ResidentTest, the_gate_never_opens_before_the_bytes_are_there) {
  map({.kind = GroupRule::Kind::kBytes, .bytes = 4 * kMiB});
  EXPECT_FALSE(resident_->gate().complete());
  EXPECT_TRUE(resident_->gate().transferring());
  std::thread agent([&] {
    Rng rng(4);
    std::vector<std::pair<uint32_t, uint32_t>> chunks;
    for (uint32_t b = 0; b < weights_.size(); ++b) {
      for (uint32_t c = 0; c < manifest_.blocks[b].chunk_sums.size(); ++c) chunks.emplace_back(b, c);
    }
    for (size_t i = chunks.size(); i > 1; --i) std::swap(chunks[i - 1], chunks[rng.below(i)]);
    for (const auto& [b, c] : chunks) {
      arrive(b, 1u << c);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  for (const uint32_t b : {0u, 3u, 1u, 6u, 5u, 4u, 2u}) {
    const absl::Status status = resident_->gate().wait(range_of(b), in(60));
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(right(b)) << "block " << b;
  }
  agent.join();
  EXPECT_TRUE(resident_->wait_ready(in(60)).ok());
  EXPECT_TRUE(resident_->gate().complete());
  EXPECT_EQ(resident_->readiness(), device_->maps_host_memory() ? Readiness::kMapped : Readiness::kResident);
}

TEST_P(ResidentTest, an_early_wait_ends_at_its_deadline) {
  map();
  arrive(1);
  EXPECT_EQ(resident_->gate().wait(range_of(0), in(0.03)).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(resident_->readiness(), Readiness::kLoading);
}

TEST_P(ResidentTest, rows_are_asked_for_and_open_before_the_rest_arrives) {
  std::mutex mutex;
  std::vector<WantedChunks> wanted;
  map({}, [&](const Want& want) {
    const std::lock_guard lock(mutex);
    wanted.insert(wanted.end(), want.chunks.begin(), want.chunks.end());
  });
  // Block 4 is a table with rows of 1000 bytes; rows 0 and 4000 lie in chunks 0 and 15.
  const device::ByteRange table = range_of(4);
  std::thread agent([&] {
    for (const Instant end = in(60); monotonic_now() < end;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard lock(mutex);
      if (wanted.empty()) continue;
      EXPECT_EQ(wanted.front().block, 4u);
      EXPECT_EQ(wanted.front().chunks, 0x8001u);
      arrive(4, wanted.front().chunks);
      return;
    }
  });
  const std::vector<int64_t> rows = {4000, 0, 4000};
  EXPECT_TRUE(resident_->gate().wait_rows(table, 1000, rows, in(60)).ok());
  agent.join();
  EXPECT_TRUE(right(4, 0, 1000));
  EXPECT_TRUE(right(4, 4'000'000, 4'001'000));
  EXPECT_FALSE(resident_->gate().complete());
  EXPECT_EQ(resident_->gate().wait_rows(table, 1000, std::vector<int64_t>{5000}, in(60)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(ResidentTest, a_failed_fetch_ends_waits_and_a_later_one_heals_them) {
  map();
  for (uint32_t b = 0; b < weights_.size(); ++b) cache_->set_failed(b);
  EXPECT_EQ(resident_->gate().wait(range_of(2), in(60)).code(), absl::StatusCode::kUnavailable);
  resident_->fetch_done({.status = absl::UnavailableError("nobody holds it")});
  EXPECT_EQ(resident_->readiness(), Readiness::kFailed);
  for (uint32_t b = 0; b < weights_.size(); ++b) {
    cache_->clear_failed(b);
    arrive(b);
  }
  resident_->fetch_done({.bytes = 123});
  absl::Status status;  // A copier takes a moment to see it.
  for (const Instant end = in(60); monotonic_now() < end && !(status = resident_->wait_ready(in(60))).ok();) {
  }
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(right(2));
  EXPECT_EQ(resident_->stats().network_bytes, 123u);
}

TEST_P(ResidentTest, an_agent_that_dies_ends_waits) {
  map();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    view_->agent_lost();
  });
  EXPECT_EQ(resident_->gate().wait(range_of(0), in(60)).code(), absl::StatusCode::kUnavailable);
  killer.join();
}

TEST_P(ResidentTest, cached_weights_are_complete_at_once_and_device_memory_is_given_back) {
  for (uint32_t b = 0; b < weights_.size(); ++b) arrive(b);
  acquired_.cached_bytes = 1;
  map({.kind = GroupRule::Kind::kModel});
  EXPECT_TRUE(resident_->wait_ready(in(60)).ok());
  for (uint32_t b = 0; b < weights_.size(); ++b) EXPECT_TRUE(right(b));
  if (!device_->maps_host_memory()) {
    EXPECT_GT(device_->usage().used_bytes, 0u);
    while (resident_->readiness() != Readiness::kResident) std::this_thread::yield();
    resident_->release_cache();
    EXPECT_TRUE(right(1));  // The device has its own copy.
    uint64_t bytes = 0;
    for (const auto& block : weights_) bytes += block.size();
    EXPECT_EQ(resident_->stats().copied_bytes, bytes);
  }
  resident_.reset();
  EXPECT_EQ(device_->usage().used_bytes, 0u);
}

TEST_P(ResidentTest, what_contradicts_the_manifest_is_refused) {
  const auto map_status = [&](const Acquired& acquired) {
    return ResidentRevision::map({}, acquired, *view_, *device_, {}, {}).status();
  };
  Acquired fewer = acquired_;
  fewer.weights.pop_back();
  EXPECT_EQ(map_status(fewer).code(), absl::StatusCode::kDataLoss);
  Acquired longer = acquired_;
  ++longer.manifest_bytes;
  EXPECT_EQ(map_status(longer).code(), absl::StatusCode::kDataLoss);
  Acquired absent = acquired_;
  cache_->reset(absent.manifest[0].word);
  EXPECT_EQ(map_status(absent).code(), absl::StatusCode::kDataLoss);
  Acquired failed;
  failed.status = absl::NotFoundError("no such revision");
  EXPECT_EQ(map_status(failed).code(), absl::StatusCode::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Devices, ResidentTest, testing::Values("host:0", "emulated:0"), [](const auto& info) {
  return std::string(info.param).substr(0, std::string(info.param).find(':'));
});

}  // namespace
}  // namespace cenote::load
