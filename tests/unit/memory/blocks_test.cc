// Goal: a block's bytes are reused only after its last grant ended, and no two blocks share a byte.
// Method: sentences on the life of one block, then a RapidCheck random walk with both invariants checked after every step.
#include "memory/blocks.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/units.h"

namespace cenote::memory {
namespace {

Digest id_of(uint8_t n) {
  Digest id;
  id.bytes[0] = n;
  id.bytes[31] = 1;
  return id;
}
Instant at_ms(int64_t ms) { return Instant{} + Duration::from_ms(ms); }

// Holds block `n` of `size` bytes; fails the test if there is no room.
Extent hold(BlockTable& table, uint8_t n, uint32_t size = 4096) {
  const auto extent = table.reserve(size);
  EXPECT_TRUE(extent.has_value());
  EXPECT_TRUE(table.hold({.id = id_of(n), .size_bytes = size}, *extent, {}));
  return *extent;
}

TEST(BlockTableTest, a_held_block_is_found_where_it_was_put) {
  BlockTable table(64 * kKiB);
  hold(table, 1, 5000);
  const Extent place = hold(table, 2, 100);
  const auto found = table.find(id_of(2));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->offset_bytes, place.offset_bytes);
  EXPECT_EQ(found->size_bytes, 100u);
  EXPECT_FALSE(table.find(id_of(3)).has_value());
  EXPECT_EQ(table.used_bytes(), 12 * kKiB);
}

TEST(BlockTableTest, a_block_held_twice_gives_the_second_room_back) {
  BlockTable table(64 * kKiB);
  hold(table, 1);
  const Extent second = *table.reserve(4096);
  EXPECT_FALSE(table.hold({.id = id_of(1), .size_bytes = 4096}, second, {}));
  EXPECT_EQ(table.used_bytes(), 4 * kKiB);
}

TEST(BlockTableTest, dropping_a_block_without_grants_frees_its_bytes_at_once) {
  BlockTable table(4 * kKiB);
  hold(table, 1);
  EXPECT_FALSE(table.reserve(1).has_value());
  EXPECT_TRUE(table.drop(id_of(1), at_ms(0)));
  EXPECT_TRUE(table.reserve(1).has_value());
}

TEST(BlockTableTest, dropping_a_granted_block_hides_it_but_keeps_its_bytes_until_the_grant_ends) {
  BlockTable table(4 * kKiB);
  hold(table, 1);
  table.grant(id_of(1), at_ms(100));
  table.grant(id_of(1), at_ms(50));  // A shorter grant does not shorten a longer one.
  EXPECT_TRUE(table.drop(id_of(1), at_ms(10)));
  EXPECT_FALSE(table.find(id_of(1)).has_value());
  EXPECT_EQ(table.next_expiry(), at_ms(100));
  table.expire(at_ms(99));
  EXPECT_FALSE(table.reserve(1).has_value());
  table.expire(at_ms(100));
  EXPECT_TRUE(table.reserve(1).has_value());
}

TEST(BlockTableTest, dropping_what_is_not_held_says_so) {
  BlockTable table(4 * kKiB);
  EXPECT_FALSE(table.drop(id_of(1), at_ms(0)));
}

TEST(BlockTableTest, a_leaving_block_that_is_wanted_again_comes_back_with_its_bytes_and_its_grant) {
  BlockTable table(8 * kKiB);
  const Extent place = hold(table, 1);
  table.grant(id_of(1), at_ms(100));
  table.drop(id_of(1), at_ms(0));
  EXPECT_TRUE(table.revive(id_of(1)));
  EXPECT_EQ(table.find(id_of(1))->offset_bytes, place.offset_bytes);
  EXPECT_EQ(table.next_expiry(), Instant::infinite_future());
  table.drop(id_of(1), at_ms(50));
  EXPECT_EQ(table.next_expiry(), at_ms(100));
}

TEST(BlockTableTest, held_lists_blocks_in_the_order_of_their_ids_without_leaving_ones) {
  BlockTable table(64 * kKiB);
  hold(table, 3);
  hold(table, 1);
  hold(table, 2);
  table.grant(id_of(2), at_ms(10));
  table.drop(id_of(2), at_ms(0));
  const auto held = table.held();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].id, id_of(1));
  EXPECT_EQ(held[1].id, id_of(3));
}

TEST(BlockTableTest, a_pinned_block_keeps_its_bytes_when_dropped_until_it_is_let_go) {
  BlockTable table(4 * kKiB);
  hold(table, 1);
  table.pin(id_of(1));
  table.drop(id_of(1), at_ms(10));
  table.expire(at_ms(1'000'000));
  EXPECT_FALSE(table.reserve(1).has_value());
  EXPECT_EQ(table.next_expiry(), Instant::infinite_future());
  table.unpin(id_of(1));
  EXPECT_LE(table.next_expiry(), at_ms(1'000'000)) << "somebody must call expire()";
  table.expire(at_ms(1'000'000));
  EXPECT_TRUE(table.reserve(1).has_value());
}

TEST(BlockTableTest, a_pinned_block_that_is_revived_is_still_pinned) {
  BlockTable table(4 * kKiB);
  hold(table, 1);
  table.pin(id_of(1));
  table.drop(id_of(1), at_ms(0));
  EXPECT_TRUE(table.revive(id_of(1)));
  EXPECT_TRUE(table.cold(at_ms(10)).empty());
  table.unpin(id_of(1));
  EXPECT_EQ(table.cold(at_ms(10)).size(), 1u);
}

TEST(BlockTableTest, discarded_bytes_wait_for_their_grant_and_the_id_is_free_at_once) {
  BlockTable table(8 * kKiB);
  const Extent bad = hold(table, 1);
  table.grant(id_of(1), at_ms(100));
  table.discard(id_of(1), at_ms(10));
  EXPECT_FALSE(table.revive(id_of(1)));
  EXPECT_NE(hold(table, 1).offset_bytes, bad.offset_bytes);
  EXPECT_EQ(table.next_expiry(), at_ms(100));
  table.expire(at_ms(100));
  EXPECT_EQ(table.used_bytes(), 4 * kKiB);
}

TEST(BlockTableTest, cold_blocks_are_those_without_a_live_grant_or_pin) {
  BlockTable table(64 * kKiB);
  for (const uint8_t n : {1, 2, 3, 4}) hold(table, n, 5000);
  table.grant(id_of(2), at_ms(50));
  table.grant(id_of(3), at_ms(5));
  table.pin(id_of(4));
  const auto cold = table.cold(at_ms(10));
  ASSERT_EQ(cold.size(), 2u);
  EXPECT_EQ(cold[0].id, id_of(1));
  EXPECT_EQ(cold[1].id, id_of(3));
  EXPECT_EQ(cold[1].granted_until, at_ms(5));
  EXPECT_EQ(cold[1].size_bytes, 8 * kKiB);
  EXPECT_EQ(table.next_grant_end(at_ms(10)), at_ms(50));
  EXPECT_EQ(table.next_grant_end(at_ms(50)), Instant::infinite_future());
}

TEST(BlockTableProperty, no_byte_is_in_two_blocks_and_no_granted_byte_is_reused) {
  const bool holds = rc::check([](const std::vector<std::tuple<uint8_t, uint8_t, uint8_t, uint8_t>>& steps) {
    BlockTable table(24 * kKiB);
    Instant now;
    std::map<Digest, std::pair<uint64_t, uint64_t>> place;   // Where the model says each held block lies.
    std::vector<std::pair<Extent, Instant>> promised;        // Bytes that some reader may read, and until when.
    for (const auto& [kind, block, size, wait] : steps) {
      now = now + Duration::from_ms(wait % 8);
      table.expire(now);
      const Digest id = id_of(block % 12);
      const uint32_t bytes = 1 + size % 3 * 4096;
      switch (kind % 4) {
        case 0: {
          if (place.contains(id)) break;
          if (table.revive(id)) {
            const auto found = table.find(id);
            RC_ASSERT(found.has_value());
            place[id] = {found->offset_bytes, round_up(found->size_bytes, kBlockAlignBytes)};
            break;
          }
          const auto extent = table.reserve(bytes);
          if (!extent) break;
          for (const auto& [bytes_promised, until] : promised) {
            RC_ASSERT(until <= now || extent->end_bytes() <= bytes_promised.offset_bytes ||
                      bytes_promised.end_bytes() <= extent->offset_bytes);
          }
          for (const auto& [other, where] : place) {
            RC_ASSERT(extent->end_bytes() <= where.first || where.first + where.second <= extent->offset_bytes);
          }
          RC_ASSERT(table.hold({.id = id, .size_bytes = bytes}, *extent, {}));
          place[id] = {extent->offset_bytes, extent->size_bytes};
          break;
        }
        case 1:
          RC_ASSERT(table.drop(id, now) == (place.erase(id) == 1));
          break;
        default: {
          const auto found = table.find(id);
          RC_ASSERT(found.has_value() == place.contains(id));
          if (!found) break;
          const Instant until = now + Duration::from_ms(size % 16);
          table.grant(id, until);
          promised.push_back({{found->offset_bytes, round_up(found->size_bytes, kBlockAlignBytes)}, until});
        }
      }
      RC_ASSERT(table.held_count() == place.size());
    }
    for (const auto& [id, where] : place) table.drop(id, now);
    table.expire(now + Duration::from_ms(1000));
    RC_ASSERT(table.used_bytes() == 0u);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::memory
