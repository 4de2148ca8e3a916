// Goal: what a deploy writes to a memory server arrives whole, and small objects are read back only if their bytes are right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/hash.h"
#include "base/status.h"
#include "deploy_writer.h"
#include "measure_reads.h"
#include "object_reader.h"

namespace cenote::native {
namespace {

constexpr auto kPatience = Duration::from_seconds(10);

// A memory server in this process: one slab at a time, sealed into a map. Serves its fabric in a thread of its own, as a real one does.
class Pool : public SlabServer {
 public:
  explicit Pool(uint64_t slab_bytes_max) : slab_bytes_max_(slab_bytes_max), memory_(64 * kMiB) {
    transport_ = fabric::open_transport({.provider = "loopback"}).value();
    region_ = transport_->register_memory(memory_, fabric::Access::kRemoteWrite).value();
    readable_ = transport_->register_memory(memory_, fabric::Access::kRemoteRead).value();
    key_ = region_->key();
    address_ = transport_->address();
    server_ = std::jthread([this](const std::stop_token& stop) {
      std::array<fabric::Completion, 16> none;
      while (!stop.stop_requested()) {
        transport_->poll(none);
        transport_->wait(Duration::from_ms(5));
      }
    });
  }
  ~Pool() override {
    server_.request_stop();
    server_.join();
    region_.reset();
    readable_.reset();
  }

  absl::StatusOr<SlabInfo> open(uint64_t size_bytes, const std::string&) override {
    asked_.push_back(size_bytes);
    if (refusals_ > 0) {
      --refusals_;
      return absl::ResourceExhaustedError("32 slabs are open");
    }
    if (size_bytes > slab_bytes_max_) return absl::ResourceExhaustedError("no room for such a slab");
    ++open_;
    return SlabInfo{.slab = ++last_slab_, .region_key = key_.key, .region_base = key_.base, .size_bytes = size_bytes,
                    .duration = kPatience, .fabric_provider = address_.provider, .fabric_address = address_.bytes};
  }
  absl::StatusOr<SealResult> seal(const SlabInfo& slab, const std::vector<SealRange>& ranges) override {
    EXPECT_EQ(slab.slab, last_slab_);
    if (spoilt_ > 0) {
      --spoilt_;
      memory_[ranges.back().offset_bytes] ^= std::byte{1};
    }
    for (const SealRange& range : ranges) {
      const std::span<const std::byte> bytes(memory_.data() + range.offset_bytes, range.block.size_bytes);
      if (sha256(bytes) != range.block.id) return absl::DataLossError("a range does not hash to its id");
      sealed_[range.block.id] = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    --open_;
    return SealResult{.sealed_bytes = slab.size_bytes};
  }
  void abandon(const SlabInfo&) override { --open_, ++abandoned_; }

  MemoryServerInfo info() const { return {.name = "pool", .fabric_provider = address_.provider, .fabric_address = address_.bytes}; }
  // Puts bytes where a grant finds them.
  BlockRef place(std::string_view bytes, Digest id) {
    std::memcpy(memory_.data() + placed_, bytes.data(), bytes.size());
    grants_[id] = {id, placed_, static_cast<uint32_t>(bytes.size())};
    placed_ += round_up(bytes.size(), kBlockAlignBytes);
    return {id, static_cast<uint32_t>(bytes.size())};
  }
  // Gives at most so many blocks a grant, as one does that reads them back from its disk.
  ReadableServer readable(size_t at_most = SIZE_MAX) {
    return {info(), [this, at_most](const std::vector<Digest>& ids) -> absl::StatusOr<Grant> {
              const fabric::RegionKey key = readable_->key();
              Grant grant{.region_key = key.key, .region_base = key.base, .duration = kPatience};
              for (const Digest& id : ids) {
                if (!grants_.contains(id)) grant.missing.push_back(id);
                else if (grant.blocks.size() < at_most) grant.blocks.push_back(grants_[id]);
              }
              return grant;
            }};
  }

  int refusals_ = 0;
  int spoilt_ = 0;  // So many slabs arrive with a byte changed.
  int open_ = 0;
  int abandoned_ = 0;
  std::vector<uint64_t> asked_;
  std::map<Digest, std::string> sealed_;

 private:
  const uint64_t slab_bytes_max_;
  std::vector<std::byte> memory_;
  std::unique_ptr<fabric::Transport> transport_;
  std::unique_ptr<fabric::MemoryRegion> region_, readable_;
  fabric::RegionKey key_;
  fabric::Address address_;
  std::map<Digest, BlockGrant> grants_;
  uint64_t placed_ = 0;
  uint64_t last_slab_ = 0;
  std::jthread server_;
};

struct Model {
  std::string bytes;
  RangeSource source;
  std::vector<BlockWrite> blocks;

  explicit Model(size_t size, uint32_t block_bytes) : bytes(size, '\0') {
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 251);
    source = RangeSource::make(size, {{0, as_bytes(bytes)}}).value();
    for (uint64_t at = 0; at < size; at += block_bytes) {
      const auto length = static_cast<uint32_t>(std::min<uint64_t>(block_bytes, size - at));
      blocks.push_back({{sha256(as_bytes(std::string_view(bytes).substr(at, length))), length}, &source, at});
    }
  }
};

std::unique_ptr<fabric::Transport> loopback() { return fabric::open_transport({.provider = "loopback"}).value(); }

TEST(DeployWriter, every_block_is_sealed_over_several_slabs) {
  Pool pool(64 * kMiB);
  const Model model(5 * kMiB + 12'345, kMiB + 4096);
  const auto transport = loopback();
  const auto result = write_blocks(*transport, pool, model.blocks, {.slab_bytes = 2 * kMiB + 64 * kKiB, .write_bytes = 300'000}, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(pool.sealed_.size(), model.blocks.size());
  for (const BlockWrite& block : model.blocks) {
    EXPECT_EQ(pool.sealed_[block.ref.id], model.bytes.substr(block.offset_bytes, block.ref.size_bytes));
  }
  EXPECT_GE(pool.asked_.size(), 3u);
  EXPECT_EQ(pool.open_, 0);
}

TEST(DeployWriter, halves_its_wish_until_the_server_has_room) {
  Pool pool(3 * kMiB);
  const Model model(9 * kMiB, kMiB);
  const auto transport = loopback();
  const auto result = write_blocks(*transport, pool, model.blocks, {.slab_bytes = 8 * kMiB}, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(pool.sealed_.size(), model.blocks.size());
}

TEST(DeployWriter, waits_for_slabs_that_others_hold_but_not_for_ever) {
  const Model model(kMiB, kMiB);
  const auto transport = loopback();
  Pool pool(64 * kMiB);
  pool.refusals_ = 3;
  EXPECT_TRUE(write_blocks(*transport, pool, model.blocks, {.slab_patience = kPatience}, nullptr).ok());
  Pool full(kMiB / 2);
  const auto result = write_blocks(*transport, full, model.blocks, {.slab_patience = Duration::from_ms(50)}, nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(DeployWriter, what_changed_on_the_way_is_sent_again_in_smaller_pieces_but_not_for_ever) {
  const Model model(4 * kMiB, kMiB);
  const auto transport = loopback();
  Pool pool(64 * kMiB);
  pool.spoilt_ = 4;
  std::vector<uint64_t> reported;
  const auto result = write_blocks(*transport, pool, model.blocks, {.slab_bytes = 4 * kMiB, .corrupt_max = 4},
                                   [&](uint64_t bytes) { return reported.push_back(bytes), true; });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(pool.sealed_.size(), model.blocks.size());
  EXPECT_EQ(result->written_bytes, 4 * kMiB);
  EXPECT_EQ(*std::max_element(reported.begin(), reported.end()), 4 * kMiB);
  EXPECT_EQ(pool.asked_[1], 2 * kMiB);
  EXPECT_EQ(pool.asked_.back(), kMiB);
  EXPECT_EQ(pool.open_, 0);
  Pool bad(64 * kMiB);
  bad.spoilt_ = 5;
  EXPECT_EQ(write_blocks(*transport, bad, model.blocks, {.corrupt_max = 4}, nullptr).status().code(), absl::StatusCode::kDataLoss);
}

TEST(DeployWriter, a_stop_abandons_the_slab) {
  Pool pool(64 * kMiB);
  const Model model(8 * kMiB, kMiB);
  const auto transport = loopback();
  const auto result = write_blocks(*transport, pool, model.blocks, {}, [](uint64_t bytes) { return bytes < 2 * kMiB; });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(pool.abandoned_, 1);
  EXPECT_EQ(pool.open_, 0);
  EXPECT_TRUE(pool.sealed_.empty());
}

TEST(ObjectReader, an_object_is_its_blocks_in_order_from_whoever_has_them) {
  Pool first(kMiB), second(kMiB);
  const std::string a(3 * kMiB + 5, 'a'), b(100, 'b'), c(kMiB, 'c');
  std::vector<BlockRef> blocks = {first.place(a, sha256(as_bytes(a))), second.place(b, sha256(as_bytes(b))),
                                  first.place(c, sha256(as_bytes(c)))};
  const auto transport = loopback();
  const std::vector<ReadableServer> servers = {first.readable(), second.readable()};
  const auto bytes = read_object(*transport, servers, blocks, kPatience);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, a + b + c);
}

TEST(ObjectReader, a_server_that_gives_its_blocks_piece_by_piece_is_asked_again) {
  Pool slow(64 * kMiB), other(kMiB);
  std::vector<BlockRef> blocks;
  std::string all;
  for (const char name : std::string("abcdefg")) {
    const std::string bytes(name == 'b' ? 100 : 3 * kMiB, name);
    blocks.push_back((name == 'b' ? other : slow).place(bytes, sha256(as_bytes(bytes))));
    all += bytes;
  }
  const auto transport = loopback();
  const std::vector<ReadableServer> servers = {slow.readable(1), other.readable()};
  const auto bytes = read_object(*transport, servers, blocks, kPatience);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == all);
  const std::vector<ReadableServer> never = {slow.readable(0)};
  EXPECT_EQ(read_object(*transport, never, blocks, kPatience).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ObjectReader, bytes_that_do_not_match_are_taken_from_another_server_or_not_at_all) {
  Pool bad(kMiB), good(kMiB);
  const std::string right(5000, 'r'), wrong(5000, 'w');
  const Digest id = sha256(as_bytes(right));
  const std::vector<BlockRef> blocks = {bad.place(wrong, id)};
  good.place(right, id);
  const auto transport = loopback();
  const std::vector<ReadableServer> both = {bad.readable(), good.readable()};
  const auto bytes = read_object(*transport, both, blocks, kPatience);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, right);
  const std::vector<ReadableServer> only_bad = {bad.readable()};
  EXPECT_EQ(read_object(*transport, only_bad, blocks, kPatience).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ObjectReader, a_block_nobody_has_is_named) {
  Pool pool(kMiB);
  const Digest id = sha256(as_bytes(std::string_view("nowhere")));
  const auto transport = loopback();
  const std::vector<ReadableServer> servers = {pool.readable()};
  const auto bytes = read_object(*transport, servers, std::vector<BlockRef>{{id, 7}}, kPatience);
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(bytes.status().message()), testing::HasSubstr(id.short_hex()));
}

TEST(MeasureReads, reads_what_the_server_holds_and_says_when_that_is_nothing) {
  Pool pool(kMiB);
  const std::string bytes(3 * kMiB + 5, 'a');
  const Digest elsewhere = sha256(as_bytes(std::string_view("elsewhere")));
  const std::vector<BlockRef> blocks = {{elsewhere, 9}, pool.place(bytes, sha256(as_bytes(bytes)))};
  const auto transport = loopback();
  const auto speed = measure_reads(*transport, pool.readable(), blocks, Duration::from_ms(50), kPatience);
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_GT(speed->bytes, 0u);
  EXPECT_GT(speed->gb_per_s, 0);
  EXPECT_GT(speed->latency_us, 0);
  const auto nothing = measure_reads(*transport, pool.readable(), std::vector<BlockRef>{{elsewhere, 9}}, Duration::from_ms(50), kPatience);
  EXPECT_EQ(nothing.status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cenote::native
