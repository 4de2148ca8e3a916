// Goal: executors see exactly the blocks they were given, in order, read-only, and waits end rightly in every case.
#include <csetjmp>
#include <csignal>
#include <thread>

#include "base/rng.h"
#include "base/units.h"
#include "scratch_cache.h"

namespace cenote::cache {
namespace {

TEST(Mapping, scattered_extents_become_one_range_and_neighbours_one_piece) {
  ScratchCache scratch;
  const std::vector<CacheExtent> extents = {
      {.offset_bytes = 8 * kMiB, .size_bytes = 4096, .word = 0},
      {.offset_bytes = 8 * kMiB + 4096, .size_bytes = 5000, .word = 1},  // Fills two pages.
      {.offset_bytes = 0, .size_bytes = 100, .word = 2},
      {.offset_bytes = 8 * kMiB + 3 * 4096, .size_bytes = 4096, .word = 3}};
  int value = 1;
  for (const CacheExtent& e : extents) scratch.fill(e.offset_bytes, e.size_bytes, value++);
  const auto view = scratch.view();
  auto mapping = Mapping::map(*view, extents);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  EXPECT_EQ(mapping->bytes().size(), 5u * 4096);
  EXPECT_EQ(mapping->pieces(), 3u);
  const auto at = [&](size_t offset) { return static_cast<int>(mapping->bytes()[offset]); };
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(at(4096), 2);
  EXPECT_EQ(at(4096 + 4999), 2);
  EXPECT_EQ(at(3 * 4096), 3);
  EXPECT_EQ(at(4 * 4096 + 4095), 4);
  mapping->populate(0, mapping->bytes().size());
  scratch.fill(0, 100, 9);  // What arrives later is seen.
  EXPECT_EQ(at(3 * 4096), 9);
}

TEST(Mapping, any_layout_reads_back_what_was_written) {
  ScratchCache scratch;
  const auto view = scratch.view();
  Rng rng(11);
  for (int round = 0; round < 30; ++round) {
    // Cut the cache into pages, shuffle runs of them into a range.
    std::vector<CacheExtent> extents;
    uint64_t offset = 0;
    while (true) {
      const uint32_t size = static_cast<uint32_t>(1 + rng.below(300 * kKiB));
      if (offset + round_up(size, 4096) > view->data_bytes()) break;
      extents.push_back({.offset_bytes = offset, .size_bytes = size, .word = 0});
      offset += round_up(size, 4096);
    }
    for (size_t i = extents.size(); i > 1; --i) std::swap(extents[i - 1], extents[rng.below(i)]);
    for (size_t i = 0; i < extents.size(); ++i) scratch.fill(extents[i].offset_bytes, extents[i].size_bytes, static_cast<int>(i % 251));
    auto mapping = Mapping::map(*view, extents);
    ASSERT_TRUE(mapping.ok()) << mapping.status();
    uint64_t at = 0;
    for (size_t i = 0; i < extents.size(); ++i) {
      ASSERT_EQ(static_cast<size_t>(mapping->bytes()[at]), i % 251);
      ASSERT_EQ(static_cast<size_t>(mapping->bytes()[at + extents[i].size_bytes - 1]), i % 251);
      at += round_up(extents[i].size_bytes, 4096);
    }
  }
}

TEST(Mapping, extents_outside_the_cache_are_refused) {
  ScratchCache scratch;
  const auto view = scratch.view();
  const std::vector<CacheExtent> bad = {
      {.offset_bytes = 0, .size_bytes = 0, .word = 0},
      {.offset_bytes = 0, .size_bytes = kBlockBytesMax + 1, .word = 0},
      {.offset_bytes = 100, .size_bytes = 4096, .word = 0},
      {.offset_bytes = 16 * kMiB, .size_bytes = 1, .word = 0},
      {.offset_bytes = 16 * kMiB - 4096, .size_bytes = 4097, .word = 0},
      {.offset_bytes = UINT64_MAX - 4095, .size_bytes = 4096, .word = 0},
      {.offset_bytes = 0, .size_bytes = 4096, .word = view->word_count()}};
  for (const CacheExtent& extent : bad) {
    const auto mapping = Mapping::map(*view, std::span(&extent, 1));
    EXPECT_EQ(mapping.status().code(), absl::StatusCode::kInvalidArgument) << extent.offset_bytes << "+" << extent.size_bytes;
  }
}

TEST(Mapping, weights_cannot_be_written_through_it) {
  ScratchCache scratch;
  const auto view = scratch.view();
  const CacheExtent extent{.offset_bytes = 0, .size_bytes = 4096, .word = 0};
  auto mapping = Mapping::map(*view, std::span(&extent, 1));
  ASSERT_TRUE(mapping.ok());
  auto* target = const_cast<std::byte*>(mapping->bytes().data());
  EXPECT_DEATH(*target = std::byte{1}, "");
}

TEST(CacheView, waits_end_at_arrival_failure_retirement_loss_and_deadline) {
  ScratchCache scratch;
  HostCache& cache = *scratch.cache;
  const auto view = scratch.view();
  const CacheExtent extent{.offset_bytes = 0, .size_bytes = static_cast<uint32_t>(4 * kChunkBytes), .word = 3};
  const auto wait_while = [&](uint32_t mask, auto&& act) {
    cache.reset(3);
    absl::Status status;
    std::thread waiter([&] { status = view->wait(extent, mask, in_seconds(20)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    act();
    waiter.join();
    return status;
  };
  EXPECT_TRUE(wait_while(0b1111, [&] { cache.publish(3, 0b1100, 0b1111), cache.publish(3, 0b0011, 0b1111); }).ok());
  EXPECT_TRUE(wait_while(0b0100, [&] { cache.publish(3, 0b0100, 0b1111); }).ok());
  EXPECT_EQ(wait_while(0b1111, [&] { cache.set_failed(3); }).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(wait_while(0b1111, [&] { cache.retire(3); }).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(wait_while(0b1111, [&] { cache.reset(3); }).code(), absl::StatusCode::kUnavailable);
  cache.reset(3);
  EXPECT_EQ(view->wait(extent, 1, in_seconds(0.01)).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(wait_while(0b1111, [&] { view->agent_lost(); }).code(), absl::StatusCode::kUnavailable);
}

TEST(CacheView, a_failed_block_that_is_fetched_again_serves_later_waits) {
  ScratchCache scratch;
  const auto view = scratch.view();
  const CacheExtent extent{.offset_bytes = 0, .size_bytes = 100, .word = 3};
  scratch.cache->reset(3);
  scratch.cache->set_failed(3);
  EXPECT_EQ(view->wait(extent, 1, in_seconds(20)).code(), absl::StatusCode::kUnavailable);
  scratch.cache->clear_failed(3);
  scratch.cache->publish(3, 1, 1);
  EXPECT_TRUE(view->wait(extent, 1, in_seconds(20)).ok());
}

// Waits look at their word now and then, so a lost wake-up would only show as delay: ask publish() itself.
TEST(CacheView, who_sleeps_is_woken) {
  ScratchCache scratch;
  const auto view = scratch.view();
  const CacheExtent extent{.offset_bytes = 0, .size_bytes = static_cast<uint32_t>(2 * kChunkBytes), .word = 3};
  for (const uint32_t mask : {0b01u, 0b11u}) {
    bool woken = false;
    for (int attempt = 0; attempt < 500 && !woken; ++attempt) {  // The waiter may not sleep yet.
      scratch.cache->reset(3);
      std::thread waiter([&] { (void)view->wait(extent, mask, in_seconds(20)); });
      std::this_thread::sleep_for(std::chrono::milliseconds(attempt));
      woken = scratch.cache->publish(3, 0b11, 0b11);
      waiter.join();
    }
    EXPECT_TRUE(woken) << mask;
  }
}

TEST(CacheView, nobody_is_woken_while_nobody_waits) {
  ScratchCache scratch;
  scratch.cache->reset(9);
  EXPECT_FALSE(scratch.cache->publish(9, 1, 0b11));
  EXPECT_FALSE(scratch.cache->publish(9, 2, 0b11));
}

}  // namespace
}  // namespace cenote::cache
