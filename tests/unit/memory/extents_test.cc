// Goal: extents never hand out a byte twice, never lose one, and choose the best fit at the lowest offset.
// Method: sentences on small cases, then RapidCheck random takes and gives against a naive model that marks every unit in a vector.
#include "memory/extents.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace cenote::memory {
namespace {

TEST(ExtentsTest, sizes_are_rounded_up_to_the_alignment) {
  Extents extents(100 * 16, 16);
  EXPECT_EQ(extents.take(1), (Extent{0, 16}));
  EXPECT_EQ(extents.take(17), (Extent{16, 32}));
  EXPECT_EQ(extents.taken_bytes(), 48u);
}

TEST(ExtentsTest, a_tail_shorter_than_the_alignment_is_never_used) {
  Extents extents(31, 16);
  EXPECT_EQ(extents.size_bytes(), 16u);
  EXPECT_TRUE(extents.take(16).has_value());
  EXPECT_FALSE(extents.take(1).has_value());
}

TEST(ExtentsTest, take_chooses_the_shortest_run_that_fits) {
  Extents extents(100, 1);
  const Extent a = *extents.take(10), b = *extents.take(5), c = *extents.take(4), d = *extents.take(5);
  extents.give(a);  // Runs: [0,10), then after giving c [15,19), and the tail [24,100).
  extents.give(c);
  EXPECT_EQ(extents.take(4), c);
  EXPECT_EQ(extents.take(6), (Extent{0, 6}));
  extents.give(b);
  extents.give(d);
}

TEST(ExtentsTest, of_equal_runs_the_lowest_offset_is_taken) {
  Extents extents(40, 1);
  const Extent a = *extents.take(8), b = *extents.take(8), c = *extents.take(8), d = *extents.take(8), e = *extents.take(8);
  extents.give(d);
  extents.give(b);
  EXPECT_EQ(extents.take(8), b);
  EXPECT_EQ(extents.take(8), d);
  extents.give(a);
  extents.give(c);
  extents.give(e);
}

TEST(ExtentsTest, take_fails_when_only_fragments_remain) {
  Extents extents(30, 1);
  const Extent a = *extents.take(10), b = *extents.take(10), c = *extents.take(10);
  extents.give(a);
  extents.give(c);
  EXPECT_EQ(extents.free_bytes(), 20u);
  EXPECT_EQ(extents.largest_free_bytes(), 10u);
  EXPECT_FALSE(extents.take(11).has_value());
  extents.give(b);
  EXPECT_EQ(extents.take(30), (Extent{0, 30}));
}

TEST(ExtentsTest, a_size_near_the_integer_limit_is_refused_not_wrapped) {
  Extents extents(1 << 20, 4096);
  EXPECT_FALSE(extents.take(std::numeric_limits<uint64_t>::max()).has_value());
}

TEST(ExtentsDeathTest, giving_what_was_not_taken_whole_is_a_bug) {
  Extents extents(100, 1);
  const Extent a = *extents.take(10);
  EXPECT_DEATH(extents.give({a.offset_bytes, 5}), "check failed");
  EXPECT_DEATH(extents.give({50, 10}), "check failed");
  extents.give(a);
  EXPECT_DEATH(extents.give(a), "check failed");
}

// The naive model: one flag per unit, every run found by scanning.
struct NaiveExtents {
  std::vector<bool> taken;
  std::optional<size_t> best_fit(size_t units) const {
    std::optional<size_t> best;
    size_t best_length = taken.size() + 1;
    for (size_t i = 0; i < taken.size();) {
      size_t end = i;
      while (end < taken.size() && !taken[end]) ++end;
      if (end - i >= units && end - i < best_length) {
        best = i;
        best_length = end - i;
      }
      i = end + 1;
    }
    return best;
  }
};

TEST(ExtentsProperty, any_sequence_of_takes_and_gives_agrees_with_the_naive_model) {
  const bool holds = rc::check([](const std::vector<std::pair<bool, uint16_t>>& steps) {
    constexpr uint64_t kAlign = 64, kUnits = 96;
    Extents extents(kUnits * kAlign, kAlign);
    NaiveExtents naive{std::vector<bool>(kUnits)};
    std::vector<Extent> live;
    for (const auto& [is_take, value] : steps) {
      if (is_take || live.empty()) {
        const uint64_t size = 1 + value % (20 * kAlign);
        const uint64_t units = (size + kAlign - 1) / kAlign;
        const auto expected = naive.best_fit(units);
        const auto got = extents.take(size);
        RC_ASSERT(got.has_value() == expected.has_value());
        if (!got) continue;
        RC_ASSERT(got->offset_bytes == *expected * kAlign && got->size_bytes == units * kAlign);
        for (uint64_t i = 0; i < units; ++i) naive.taken[*expected + i] = true;
        live.push_back(*got);
      } else {
        const size_t victim = value % live.size();
        const Extent extent = live[victim];
        live.erase(live.begin() + static_cast<ptrdiff_t>(victim));
        extents.give(extent);
        for (uint64_t i = 0; i < extent.size_bytes / kAlign; ++i) naive.taken[extent.offset_bytes / kAlign + i] = false;
      }
      const auto marked = static_cast<uint64_t>(std::count(naive.taken.begin(), naive.taken.end(), true));
      RC_ASSERT(extents.taken_bytes() == marked * kAlign);
    }
    for (const Extent& extent : live) extents.give(extent);
    RC_ASSERT(extents.largest_free_bytes() == kUnits * kAlign);  // Merged back into one run.
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::memory
