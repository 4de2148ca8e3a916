// Goal: the emulated device's arena never gives the same bytes twice, and its pace is a lower bound on time.
#include <gtest/gtest.h>
#include <map>

#include "base/rng.h"
#include "device/device.h"
#include "device/emulated/arena.h"
#include "device/emulated/paced_stream.h"

namespace cenote::device {
namespace {

TEST(EmulatedArena, random_use_never_overlaps_and_ends_whole) {
  auto arena = *EmulatedArena::create(64 << 20);
  Rng rng(5);
  std::map<uint64_t, DeviceSpan> live;
  for (int i = 0; i < 3000; ++i) {
    if (live.empty() || rng.below(3) != 0) {
      const auto span = arena->take(1 + rng.below(9 << 20));
      if (!span.ok()) continue;
      const auto start = static_cast<uint64_t>(span->address);
      const auto next = live.lower_bound(start);
      if (next != live.end()) { ASSERT_LE(start + span->size_bytes, next->first); }
      if (next != live.begin()) { ASSERT_LE(std::prev(next)->first + std::prev(next)->second.size_bytes, start); }
      ASSERT_EQ(start % EmulatedArena::kAlignBytes, 0u);
      live.emplace(start, *span);
    } else {
      auto victim = live.begin();
      std::advance(victim, rng.below(live.size()));
      arena->give(victim->second);
      live.erase(victim);
    }
  }
  for (const auto& [start, span] : live) arena->give(span);
  EXPECT_EQ(arena->usage().used_bytes, 0u);
  EXPECT_TRUE(arena->take(64 << 20).ok());
}

TEST(PacedStream, copies_take_at_least_bytes_over_bandwidth) {
  auto arena = *EmulatedArena::create(8 << 20);
  const auto target = arena->take(2'000'000);
  const std::vector<std::byte> source(2'000'000);
  PacedStream stream(0.1, Duration::from_ms(5));  // 20 ms and 5 ms each.
  const Instant start = monotonic_now();
  for (uint64_t i = 0; i < 2; ++i) ASSERT_TRUE(stream.copy_in(*target, source, i).ok());
  uint64_t tags[2];
  size_t done = 0;
  while (done < 2 && monotonic_now() - start < Duration::from_seconds(20)) {
    stream.wait(start + Duration::from_seconds(20));
    done += stream.poll(std::span(tags).subspan(done));
  }
  EXPECT_EQ(done, 2u);
  EXPECT_GE(monotonic_now() - start, Duration::from_ms(50));
}

TEST(EmulatedDevice, computing_is_stretched_to_its_calibrated_time) {
  const auto device = *open_device({.name = "emulated:0", .memory_bytes = 4 << 20});
  const Instant start = monotonic_now();
  device->pace_compute(Duration::from_ms(5), Duration::from_ms(25));
  EXPECT_GE(monotonic_now() - start, Duration::from_ms(20));
  device->pace_compute(Duration::from_ms(5), Duration{});  // Not calibrated.
}

}  // namespace
}  // namespace cenote::device
