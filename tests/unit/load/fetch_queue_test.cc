// Goal: whatever fails, comes corrupt or is cancelled, each chunk is in at most one read, published once, and each job ends once.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/rng.h"
#include "load/fetch_queue.h"

namespace cenote::load {
namespace {

Digest id_of(uint64_t n) {
  Digest digest;
  std::memcpy(digest.bytes.data(), &n, sizeof n);
  digest.bytes[31] = 1;
  return digest;
}

FetchBlock block_of(uint64_t n, uint32_t size, std::vector<std::string> replicas, bool sums = true) {
  FetchBlock block{.ref = {.id = id_of(n), .size_bytes = size},
                   .extent = {.offset_bytes = n * kBlockBytesMax, .size_bytes = size, .word = static_cast<uint32_t>(n)},
                   .replicas = std::move(replicas)};
  if (sums) block.chunk_sums.resize(chunks_of(size));
  return block;
}

struct Servers final : ReplicaView {
  std::map<std::string, Availability> state;
  bool is_fresh = true;
  std::set<std::string> slow_ones, avoided_ones;
  bool slow(const std::string& server, Instant) const override { return slow_ones.contains(server); }
  bool avoided(const std::string& server) const override { return avoided_ones.contains(server); }
  Availability availability(const std::string& server, const Digest&, Instant) const override {
    const auto found = state.find(server);
    return found == state.end() ? Availability::kReady : found->second;
  }
  bool fresh(const std::string& server, const Digest& id, Instant now) const override {
    return is_fresh && availability(server, id, now) == Availability::kReady;
  }
};

constexpr Instant kNow{1'000'000'000};

// Reads everything a queue gives, all good; the order of (block, first chunk).
std::vector<std::pair<uint32_t, uint32_t>> drain(FetchQueue& queue, const Servers& servers) {
  std::vector<std::pair<uint32_t, uint32_t>> order;
  std::set<std::string> needed;
  while (const auto read = queue.next(servers, kNow, needed)) {
    order.emplace_back(read->work->block.extent.word, read->run.first);
    const uint32_t check = queue.arrived(*read, kNow);
    if (check != 0) queue.checked(*read, check, check, {});
  }
  return order;
}

TEST(FetchQueue, urgent_jobs_go_first_and_wanted_chunks_before_them) {
  FetchQueue queue({.read_bytes = kMiB});
  Servers servers;
  queue.add({.id = 1, .blocks = {block_of(1, 4 * kMiB, {"a"})}});
  queue.add({.id = 2, .urgent = true, .blocks = {block_of(2, kMiB, {"a"})}});
  queue.add({.id = 3, .urgent = true, .blocks = {block_of(3, kMiB, {"a"})}});
  queue.want(id_of(1), 1u << 9);
  const auto order = drain(queue, servers);
  const std::vector<std::pair<uint32_t, uint32_t>> expected = {{1, 9}, {2, 0}, {3, 0}, {1, 0}, {1, 4}, {1, 8}, {1, 10}, {1, 14}};
  EXPECT_EQ(order, expected);
  EXPECT_EQ(queue.take_finished().size(), 3u);
  EXPECT_TRUE(queue.idle());
}

TEST(FetchQueue, a_promoted_job_overtakes) {
  FetchQueue queue({});
  queue.add({.id = 1, .blocks = {block_of(1, kMiB, {"a"})}});
  queue.add({.id = 2, .blocks = {block_of(2, kMiB, {"a"})}});
  queue.promote(2);
  EXPECT_EQ(drain(queue, Servers()).front().first, 2u);
}

// Block n of a job has word n; `count` blocks of a MiB each.
FetchJob job_of(uint64_t id, bool urgent, uint64_t first, uint64_t count) {
  FetchJob job{.id = id, .urgent = urgent};
  for (uint64_t i = 0; i < count; ++i) job.blocks.push_back(block_of(first + i, kMiB, {"a"}));
  return job;
}

std::vector<uint32_t> words_of(const std::vector<std::pair<uint32_t, uint32_t>>& order) {
  std::vector<uint32_t> words;
  for (const auto& [word, chunk] : order) words.push_back(word);
  return words;
}

TEST(FetchQueue, urgent_jobs_take_turns_so_that_a_small_one_does_not_wait_for_a_large_one) {
  FetchQueue queue({});
  queue.add(job_of(1, true, 10, 100));
  queue.add(job_of(2, true, 200, 3));
  queue.add(job_of(3, false, 300, 1));  // Nobody waits for it.
  const std::vector<uint32_t> order = words_of(drain(queue, Servers()));
  EXPECT_EQ(std::vector<uint32_t>(order.begin(), order.begin() + 7), (std::vector<uint32_t>{10, 200, 11, 201, 12, 202, 13}));
  EXPECT_EQ(order.back(), 300u);
  EXPECT_EQ(queue.take_finished().front().job, 2u);
}

TEST(FetchQueue, turns_are_counted_in_bytes) {
  FetchQueue queue({.read_bytes = kMiB});
  FetchJob small{.id = 1, .urgent = true};  // Reads of a quarter: four turns for one of the other's.
  for (uint64_t i = 0; i < 8; ++i) small.blocks.push_back(block_of(10 + i, kMiB / 4, {"a"}));
  queue.add(std::move(small));
  queue.add(job_of(2, true, 100, 3));
  EXPECT_EQ(words_of(drain(queue, Servers())), (std::vector<uint32_t>{10, 100, 11, 12, 13, 101, 14, 15, 16, 17, 102}));
}

TEST(FetchQueue, who_comes_late_or_becomes_urgent_late_has_no_claim_to_what_others_got) {
  FetchQueue queue({});
  Servers servers;
  std::set<std::string> needed;
  queue.add(job_of(1, true, 10, 12));
  queue.add(job_of(3, false, 300, 4));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(queue.next(servers, kNow, needed)->work->block.extent.word, 10u + i);
  queue.add(job_of(2, true, 200, 4));
  queue.promote(3);
  std::vector<uint32_t> order;
  for (int i = 0; i < 9; ++i) order.push_back(queue.next(servers, kNow, needed)->work->block.extent.word);
  EXPECT_EQ(order, (std::vector<uint32_t>{200, 300, 14, 201, 301, 15, 202, 302, 16}));
}

TEST(FetchQueue, a_job_that_could_not_be_read_for_a_while_makes_up_for_nothing) {
  FetchQueue queue({});
  Servers servers;
  servers.state["b"] = Availability::kLater;
  std::set<std::string> needed;
  FetchJob away = job_of(2, true, 200, 8);
  for (FetchBlock& block : away.blocks) block.replicas = {"b"};
  queue.add(std::move(away));
  queue.add(job_of(1, true, 10, 20));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(queue.next(servers, kNow, needed)->work->block.extent.word, 10u + i);
  servers.state["b"] = Availability::kReady;
  std::vector<uint32_t> order;
  for (int i = 0; i < 6; ++i) order.push_back(queue.next(servers, kNow, needed)->work->block.extent.word);
  EXPECT_EQ(order, (std::vector<uint32_t>{200, 20, 201, 21, 202, 22}));
}

TEST(FetchQueue, two_jobs_that_share_a_block_read_it_once) {
  FetchQueue queue({});
  queue.add({.id = 1, .blocks = {block_of(1, kMiB, {"a"}), block_of(2, kMiB, {"a"})}});
  queue.add({.id = 2, .blocks = {block_of(2, kMiB, {"a"}), block_of(2, kMiB, {"a"}), block_of(3, kMiB, {"a"})}});
  EXPECT_EQ(drain(queue, Servers()).size(), 3u);
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 2u);
  EXPECT_EQ(finished[0].bytes, 2 * kMiB);
  EXPECT_EQ(finished[1].bytes, 2 * kMiB);
}

TEST(FetchQueue, what_is_there_already_is_not_read) {
  FetchQueue queue({});
  FetchBlock part = block_of(1, 4 * kMiB, {"a"});
  part.have = 0x0fff;
  FetchBlock whole = block_of(2, kMiB, {"a"});
  whole.have = 0xf;
  queue.add({.id = 1, .blocks = {part, whole}});
  EXPECT_EQ(drain(queue, Servers()), (std::vector<std::pair<uint32_t, uint32_t>>{{1, 12}}));
  EXPECT_TRUE(queue.take_finished().front().status.ok());
}

TEST(FetchQueue, what_was_kept_is_checked_and_read_only_where_it_changed) {
  FetchQueue queue({});
  FetchBlock kept = block_of(1, kMiB, {"a"});
  kept.kept = true;
  kept.have = 0x1;
  FetchBlock manifest = block_of(2, kMiB, {"a"}, false);
  manifest.kept = true;
  queue.add({.id = 1, .blocks = {kept, manifest, block_of(3, kChunkBytes, {"a"})}});
  const auto first = queue.next_kept();
  ASSERT_TRUE(first != nullptr);
  EXPECT_EQ(first->landed, 0xeu);
  const auto second = queue.next_kept();
  ASSERT_TRUE(second != nullptr);
  EXPECT_EQ(second->landed, 0xfu);
  EXPECT_EQ(queue.next_kept(), nullptr);
  queue.kept_checked(first, 0xe, 0xa, {});
  queue.kept_checked(second, 0xf, 0, {});
  const std::vector<std::pair<uint32_t, uint32_t>> expected = {{1, 2}, {2, 0}, {3, 0}};
  EXPECT_EQ(drain(queue, Servers()), expected);
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_TRUE(finished[0].status.ok());
  EXPECT_EQ(finished[0].refetched, 5u);
  EXPECT_EQ(finished[0].bytes, kChunkBytes + kMiB + kChunkBytes);
  EXPECT_TRUE(queue.idle());
}

TEST(FetchQueue, kept_blocks_need_no_server_and_a_cancelled_one_is_checked_by_who_wants_it_next) {
  FetchQueue queue({});
  FetchBlock kept = block_of(1, kMiB, {});
  kept.kept = true;
  queue.add({.id = 1, .blocks = {kept}});
  queue.cancel(1);
  EXPECT_EQ(queue.next_kept(), nullptr);
  ASSERT_EQ(queue.take_finished().size(), 1u);
  queue.add({.id = 2, .blocks = {kept}});
  const auto work = queue.next_kept();
  ASSERT_TRUE(work != nullptr);
  queue.kept_checked(work, 0xf, 0xf, {});
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_TRUE(finished[0].status.ok());
  EXPECT_EQ(finished[0].bytes, 0u);
  EXPECT_TRUE(queue.idle());
}

TEST(FetchQueue, the_first_replica_serves_and_the_next_one_when_it_may_not_be_asked) {
  FetchQueue queue({});
  Servers servers;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, 2 * kMiB, {"a", "b"})}});
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "a");
  servers.state["a"] = Availability::kLater;
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "b");
}

TEST(FetchQueue, a_slow_replica_comes_after_the_others_and_before_those_to_avoid_and_grants_are_asked_in_that_order) {
  FetchQueue queue({});
  Servers servers;
  servers.avoided_ones = {"a"};
  servers.slow_ones = {"b"};
  servers.is_fresh = false;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, 4 * kMiB, {"a", "b", "c"})}});
  EXPECT_EQ(queue.ungranted("c", servers, kNow, 10).size(), 1u);
  EXPECT_EQ(queue.ungranted("b", servers, kNow, 10).size(), 0u);
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "c");
  servers.state["c"] = Availability::kLater;
  EXPECT_EQ(queue.ungranted("b", servers, kNow, 10).size(), 1u);
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "b");
  servers.state["b"] = Availability::kLater;
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "a");
}

TEST(FetchQueue, a_missing_grant_is_named_with_all_blocks_it_should_cover) {
  FetchQueue queue({});
  Servers servers;
  servers.state["a"] = Availability::kPending;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, kMiB, {"a"})}, .grant_ahead = {block_of(2, kMiB, {"a"}), block_of(3, kMiB, {"b"})}});
  EXPECT_FALSE(queue.next(servers, kNow, needed));
  EXPECT_EQ(needed, std::set<std::string>{"a"});
  EXPECT_EQ(queue.ungranted("a", servers, kNow, 10), (std::vector<Digest>{id_of(1), id_of(2)}));
  EXPECT_EQ(queue.ungranted("a", servers, kNow, 1).size(), 1u);
}

TEST(FetchQueue, corrupt_chunks_come_from_another_replica_and_then_fail_the_job) {
  FetchQueue queue({.read_bytes = 4 * kMiB, .corrupt_max = 2});
  Servers servers;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, kMiB, {"a", "b"})}});
  std::vector<std::string> asked;
  while (const auto read = queue.next(servers, kNow, needed)) {
    asked.push_back(read->server);
    const uint32_t check = queue.arrived(*read, kNow);
    queue.checked(*read, check, asked.size() == 1 ? 0b1101 : 0, {});
    ASSERT_LT(asked.size(), 10u);
  }
  EXPECT_EQ(asked, (std::vector<std::string>{"a", "b", "a"}));
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(finished[0].status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(finished[0].missing, std::vector<Digest>{id_of(1)});
  EXPECT_EQ(queue.take_given_up().size(), 1u);
}

TEST(FetchQueue, a_block_without_sums_is_checked_when_it_is_whole) {
  FetchQueue queue({.read_bytes = kMiB});
  Servers servers;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, 2 * kMiB, {"a", "b"}, false)}});
  const auto first = queue.next(servers, kNow, needed);
  const auto second = queue.next(servers, kNow, needed);
  EXPECT_EQ(queue.arrived(*second, kNow), 0u);
  EXPECT_EQ(queue.arrived(*first, kNow), 0xffu);
  queue.checked(*first, 0xff, 0, {});
  EXPECT_EQ(queue.next(servers, kNow, needed)->server, "b");
}

TEST(FetchQueue, a_cancelled_job_ends_only_when_nothing_of_it_flies) {
  FetchQueue queue({.read_bytes = kMiB});
  Servers servers;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, 2 * kMiB, {"a"})}});
  const auto flying = queue.next(servers, kNow, needed);
  queue.cancel(1);
  EXPECT_TRUE(queue.take_finished().empty());
  EXPECT_FALSE(queue.next(servers, kNow, needed));
  EXPECT_EQ(queue.arrived(*flying, kNow), 0u);  // Not published: nobody may rely on it.
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(finished[0].status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(queue.idle());
}

TEST(FetchQueue, a_cancelled_block_wanted_again_does_not_read_what_still_flies) {
  FetchQueue queue({.read_bytes = kMiB});
  Servers servers;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, 2 * kMiB, {"a"})}});
  const auto flying = queue.next(servers, kNow, needed);
  queue.cancel(1);
  queue.add({.id = 2, .blocks = {block_of(1, 2 * kMiB, {"a"})}});
  EXPECT_EQ(queue.take_finished().size(), 1u);  // The first job: the second answers for the extent now.
  const auto other = queue.next(servers, kNow, needed);
  EXPECT_EQ(other->run.first, 4u);
  EXPECT_FALSE(queue.next(servers, kNow, needed));
  EXPECT_EQ(queue.arrived(*flying, kNow), 0xfu);
}

TEST(FetchQueue, a_job_without_any_reachable_replica_fails_after_the_stall_and_not_before) {
  FetchQueue queue({.stall_max = Duration::from_seconds(3)});
  Servers servers;
  servers.state["a"] = Availability::kLater;
  std::set<std::string> needed;
  queue.add({.id = 1, .blocks = {block_of(1, kMiB, {"a"})}});
  EXPECT_FALSE(queue.next(servers, kNow, needed));
  EXPECT_EQ(queue.expire(kNow), kNow + Duration::from_seconds(3));
  servers.state["a"] = Availability::kPending;  // Asked again in between, in vain.
  EXPECT_FALSE(queue.next(servers, kNow + Duration::from_seconds(1), needed));
  EXPECT_TRUE(queue.take_finished().empty());
  queue.expire(kNow + Duration::from_seconds(3));
  const auto finished = queue.take_finished();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(finished[0].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(finished[0].status.message().find("held by a"), std::string::npos);
}

// Random jobs over random blocks with failures, corruption, cancels and unreachable servers.
RC_GTEST_PROP(FetchQueueProperties, chunks_fly_once_are_published_once_and_jobs_end_once, ()) {
  Rng rng(*rc::gen::arbitrary<uint64_t>());
  FetchQueue queue({.read_bytes = kChunkBytes * (1 + rng.below(16)), .corrupt_max = 1000, .stall_max = Duration::from_seconds(1)});
  Servers servers;
  std::vector<uint32_t> sizes;
  for (int i = 0; i < 10; ++i) sizes.push_back(static_cast<uint32_t>(1 + rng.below(kBlockBytesMax)));
  std::map<uint32_t, uint32_t> flying;     // Word -> chunks.
  std::map<uint32_t, uint32_t> published;
  std::vector<FetchQueue::Read> reads;
  std::map<uint64_t, bool> jobs;           // Id -> ended.
  uint64_t next_job = 1;
  Instant now = kNow;
  std::set<std::string> needed;
  const auto collect = [&] {
    for (const FetchResult& result : queue.take_finished()) {
      RC_ASSERT(jobs.contains(result.job) && !jobs[result.job]);
      jobs[result.job] = true;
      RC_ASSERT(result.status.ok() == result.missing.empty());
    }
    for (const CacheExtent& extent : queue.take_given_up()) RC_ASSERT(published[extent.word] != all_chunks(extent.size_bytes));
  };
  const auto add = [&] {
    FetchJob job{.id = next_job++, .urgent = rng.below(2) == 0};
    for (uint64_t i = 0; i < 1 + rng.below(5); ++i) {
      const uint64_t b = rng.below(sizes.size());
      FetchBlock block = block_of(b, sizes[b], {"a", "b"}, b % 3 != 0);
      block.have = published[static_cast<uint32_t>(b)];
      block.kept = (block.have == 0 || b % 3 != 0) && rng.below(3) == 0;
      job.blocks.push_back(block);
    }
    jobs[job.id] = false;
    queue.add(std::move(job));
  };
  for (int step = 0; step < 400; ++step) {
    const bool last = step >= 300;  // Calm at the end: everything must finish.
    now = now + Duration::from_ms(static_cast<int64_t>(rng.below(20)));
    if (last) servers.state.clear();
    switch (rng.below(last ? 5 : 9)) {
      case 0:
      case 1:
      case 2:
        if (const auto read = queue.next(servers, now, needed)) {
          const uint32_t word = read->work->block.extent.word;
          RC_ASSERT((flying[word] & read->run.mask()) == 0u);
          RC_ASSERT((published[word] & read->run.mask()) == 0u);
          flying[word] |= read->run.mask();
          reads.push_back(*read);
        }
        break;
      case 3: {
        if (reads.empty()) break;
        const size_t i = rng.below(reads.size());
        const FetchQueue::Read read = reads[i];
        reads.erase(reads.begin() + static_cast<std::ptrdiff_t>(i));
        const uint32_t word = read.work->block.extent.word;
        flying[word] &= ~read.run.mask();
        if (!last && rng.below(4) == 0) {
          queue.failed(read);
          break;
        }
        const uint32_t check = queue.arrived(read, now);
        if (check == 0) break;
        uint32_t good = check;
        if (!last && rng.below(4) == 0) good = read.work->block.chunk_sums.empty() ? 0 : check & static_cast<uint32_t>(rng.next());
        RC_ASSERT((published[word] & good) == 0u);
        published[word] |= good;
        queue.checked(read, check, good, {});
        break;
      }
      case 4:
        if (const auto work = queue.next_kept()) {
          const uint32_t word = work->block.extent.word;
          const uint32_t check = work->landed;
          uint32_t good = check;
          if (rng.below(4) == 0) good = work->block.chunk_sums.empty() ? 0 : check & static_cast<uint32_t>(rng.next());
          RC_ASSERT((flying[word] & check) == 0u && (published[word] & check) == 0u);
          published[word] |= good;
          queue.kept_checked(work, check, good, {});
        }
        break;
      case 5: queue.cancel(rng.below(next_job)); break;
      case 6: servers.state[rng.below(2) ? "a" : "b"] = rng.below(2) ? Availability::kLater : Availability::kReady; break;
      case 7: add(); break;
      case 8: queue.want(id_of(rng.below(sizes.size())), static_cast<uint32_t>(rng.next())); break;
    }
    queue.expire(now);
    collect();
  }
  // Drain.
  for (int i = 0; i < 2000 && !queue.idle(); ++i) {
    while (const auto read = queue.next(servers, now, needed)) reads.push_back(*read);
    while (const auto work = queue.next_kept()) queue.kept_checked(work, work->landed, work->landed, {});
    for (const FetchQueue::Read& read : std::exchange(reads, {})) {
      const uint32_t check = queue.arrived(read, now);
      if (check == 0) continue;
      published[read.work->block.extent.word] |= check;
      queue.checked(read, check, check, {});
    }
    collect();
  }
  RC_ASSERT(queue.idle());
  for (const auto& [id, ended] : jobs) RC_ASSERT(ended);
}

}  // namespace
}  // namespace cenote::load
