// Goal: the cache never gives the same bytes or the same word to two blocks, never drops what is pinned, and says why it is full.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <set>

#include "base/rng.h"
#include "base/units.h"
#include "node/cache_index.h"

namespace cenote::node {
namespace {

BlockRef block(uint64_t n, uint32_t size) {
  BlockRef ref{.size_bytes = size};
  std::memcpy(ref.id.bytes.data(), &n, sizeof n);
  return ref;
}

void expect_disjoint(const CacheIndex& index) {
  std::map<uint64_t, uint64_t> runs;
  std::set<uint32_t> words;
  uint64_t used = 0;
  uint64_t pinned = 0;
  for (const auto& [id, slot] : index.slots()) {
    const uint64_t size = round_up(slot.ref.size_bytes, kBlockAlignBytes);
    ASSERT_LE(slot.extent.offset_bytes + size, index.size_bytes());
    ASSERT_TRUE(runs.emplace(slot.extent.offset_bytes, size).second);
    ASSERT_TRUE(words.insert(slot.extent.word).second);
    used += size;
    pinned += slot.pins > 0 ? size : 0;
  }
  uint64_t end = 0;
  for (const auto& [offset, size] : runs) {
    ASSERT_LE(end, offset);
    end = offset + size;
  }
  ASSERT_EQ(used, index.used_bytes());
  ASSERT_EQ(pinned, index.pinned_bytes());
}

TEST(CacheIndex, blocks_of_one_model_lie_side_by_side) {
  CacheIndex index(kMiB, 64, false);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const std::vector<BlockRef> model = {block(1, 5000), block(2, 4096), block(1, 5000), block(3, 1)};
  ASSERT_TRUE(index.place(model, {1}, change, &shortage).ok());
  EXPECT_EQ(index.find(model[0].id)->extent.offset_bytes, 0u);
  EXPECT_EQ(index.find(model[1].id)->extent.offset_bytes, 8192u);
  EXPECT_EQ(index.find(model[3].id)->extent.offset_bytes, 12288u);
  EXPECT_EQ(change.emptied.size(), 3u);
  EXPECT_TRUE(change.retired.empty());
}

TEST(CacheIndex, shared_blocks_stay_while_either_model_is_in_use) {
  CacheIndex index(kMiB, 64, false);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const std::vector<BlockRef> a = {block(1, 4096), block(2, 4096)};
  const std::vector<BlockRef> b = {block(2, 4096), block(3, 4096)};
  ASSERT_TRUE(index.place(a, {1}, change, &shortage).ok());
  ASSERT_TRUE(index.place(b, {2}, change, &shortage).ok());
  index.unpin(a, {3});
  index.erase(a, change);
  EXPECT_EQ(index.find(a[0].id), nullptr);
  EXPECT_NE(index.find(a[1].id), nullptr);
  EXPECT_EQ(index.pinned_bytes(), 8192u);
}

TEST(CacheIndex, the_least_recently_used_model_leaves) {
  CacheIndex index(8 * 4096, 64, false);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const auto model = [](uint64_t n) { return std::vector<BlockRef>{block(n, 4096), block(n + 1, 4096), block(n + 2, 4096)}; };
  ASSERT_TRUE(index.place(model(10), {1}, change, &shortage).ok());
  index.unpin(model(10), {1});
  ASSERT_TRUE(index.place(model(20), {2}, change, &shortage).ok());
  index.unpin(model(20), {5});
  index.set_whole(block(20, 1).id);
  change = {};
  ASSERT_TRUE(index.place(model(30), {6}, change, &shortage).ok());
  EXPECT_EQ(change.retired.size(), 1u);  // Two pages were free.
  EXPECT_TRUE(index.find(block(20, 1).id)->whole);
  EXPECT_NE(index.find(block(21, 1).id), nullptr);
}

TEST(CacheIndex, a_full_cache_says_whether_waiting_helps) {
  CacheIndex index(8 * 4096, 64, false);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const std::vector<BlockRef> large = {block(1, 20 * 1024), block(2, 20 * 1024)};
  EXPECT_EQ(index.place(large, {1}, change, &shortage).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(shortage, 0u);  // It never fits.
  const std::vector<BlockRef> a = {block(3, 20 * 1024)};
  ASSERT_TRUE(index.place(a, {1}, change, &shortage).ok());
  const std::vector<BlockRef> b = {block(4, 16 * 1024)};
  const absl::Status status = index.place(b, {1}, change, &shortage);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(shortage, 4096u);
  EXPECT_NE(status.message().find("20.0 KiB in use"), std::string::npos) << status;
}

TEST(CacheIndex, what_rested_is_to_be_checked_when_it_is_pinned_anew_and_only_then) {
  CacheIndex index(kMiB, 64, true);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const std::vector<BlockRef> model = {block(1, 4096), block(2, 4096)};
  ASSERT_TRUE(index.place(model, {1}, change, &shortage).ok());
  index.set_whole(model[0].id);
  change = {};
  ASSERT_TRUE(index.place(model, {2}, change, &shortage).ok());  // By a second holder: it is in use.
  EXPECT_TRUE(change.emptied.empty());
  EXPECT_TRUE(index.find(model[0].id)->whole);
  index.unpin(model, {3});
  index.unpin(model, {4});
  ASSERT_TRUE(index.place(model, {5}, change, &shortage).ok());
  EXPECT_EQ(change.emptied.size(), 2u);  // Also of the one that never was whole: what is there of it was not checked lately.
  EXPECT_FALSE(index.find(model[0].id)->whole);
  EXPECT_TRUE(index.find(model[0].id)->kept);
  EXPECT_FALSE(index.find(model[1].id)->kept);
  index.unpin(model, {6});
  change = {};
  ASSERT_TRUE(index.place(model, {7}, change, &shortage).ok());  // Nobody had come to check it.
  EXPECT_TRUE(index.find(model[0].id)->kept);
  index.set_whole(model[0].id);
  EXPECT_TRUE(index.find(model[0].id)->whole && !index.find(model[0].id)->kept);
}

TEST(CacheIndex, words_run_out_like_bytes) {
  CacheIndex index(kMiB, 3, false);
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const std::vector<BlockRef> a = {block(1, 1), block(2, 1), block(3, 1)};
  ASSERT_TRUE(index.place(a, {1}, change, &shortage).ok());
  const std::vector<BlockRef> b = {block(4, 1), block(5, 1)};
  EXPECT_FALSE(index.place(b, {2}, change, &shortage).ok());
  index.unpin(a, {3});
  EXPECT_TRUE(index.place(b, {4}, change, &shortage).ok());
  EXPECT_EQ(index.slots().size(), 3u);
}

RC_GTEST_PROP(CacheIndexProperties, no_byte_or_word_has_two_owners_and_pins_hold, ()) {
  Rng rng(*rc::gen::arbitrary<uint64_t>());
  CacheIndex index(64 * 4096, static_cast<uint32_t>(20 + rng.below(60)), false);
  std::vector<std::vector<BlockRef>> models;
  for (int m = 0; m < 8; ++m) {
    std::vector<BlockRef> model;
    for (uint64_t i = 0; i < 1 + rng.below(10); ++i) {
      const uint64_t n = rng.below(40);
      model.push_back(block(n, static_cast<uint32_t>(1 + n * 977 % 30000)));
    }
    models.push_back(model);
  }
  std::map<int, int> pinned;  // Model -> times.
  std::map<Digest, uint32_t> owner_words;
  for (int step = 0; step < 200; ++step) {
    const int m = static_cast<int>(rng.below(models.size()));
    CacheIndex::Change change;
    switch (rng.below(3)) {
      case 0: {
        uint64_t shortage = 0;
        const absl::Status status = index.place(models[m], {step}, change, &shortage);
        if (status.ok()) ++pinned[m];
        break;
      }
      case 1:
        if (pinned[m] > 0) {
          index.unpin(models[m], {step});
          --pinned[m];
        }
        break;
      case 2: index.erase(models[m], change); break;
    }
    expect_disjoint(index);
    if (testing::Test::HasFatalFailure()) RC_FAIL("overlap");
    for (const auto& [model, times] : pinned) {
      for (const BlockRef& ref : models[model]) RC_ASSERT(times == 0 || index.find(ref.id) != nullptr);
    }
    // A word that changed hands was named: emptied for the new owner, or retired.
    std::set<uint32_t> named(change.emptied.begin(), change.emptied.end());
    for (const auto& [id, slot] : index.slots()) {
      const auto before = owner_words.find(id);
      if (before == owner_words.end() || before->second != slot.extent.word) RC_ASSERT(named.contains(slot.extent.word));
    }
    owner_words.clear();
    for (const auto& [id, slot] : index.slots()) owner_words[id] = slot.extent.word;
  }
}

}  // namespace
}  // namespace cenote::node
