// Goal: the agent gives executors what they acquire, fetches each block once, never takes what is held, and outlives every failure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/rng.h"
#include "base/units.h"
#include "node/agent.h"

namespace cenote::node {
namespace {

using namespace agent;  // NOLINT

Digest digest_of(uint64_t n) {
  Digest digest;
  std::memcpy(digest.bytes.data(), &n, sizeof n);
  digest.bytes[31] = 1;
  return digest;
}

// A model of `blocks` blocks of 1 MiB, numbered from `first`, and a manifest block.
RevisionRecord model(uint64_t n, uint64_t first, uint64_t blocks) {
  RevisionRecord record{.digest = digest_of(n), .name = "model-" + std::to_string(n), .manifest_bytes = 4096};
  record.manifest_blocks = {{.id = digest_of(1000 + n), .size_bytes = 4096}};
  for (uint64_t i = 0; i < blocks; ++i) record.blocks.push_back({.id = digest_of(2000 + first + i), .size_bytes = static_cast<uint32_t>(kMiB)});
  record.weight_bytes = blocks * kMiB;
  return record;
}

// Feeds an agent and plays its surroundings: executors that release when asked, a fetcher that ends jobs when told.
class World {
 public:
  explicit World(uint64_t cache_bytes = 16 * kMiB)
      : agent({.name = "a", .devices = {"host:0", "host:1"}, .cache_bytes = cache_bytes, .cache_words = 256, .cache_path = "/cache"}) {}

  void step(std::vector<Event> events = {}) {
    std::vector<Action> actions;
    agent.step(now, events, actions);
    for (Action& action : actions) {
      if (auto* fetch = std::get_if<StartFetch>(&action)) {
        EXPECT_FALSE(jobs.contains(fetch->job.id));
        jobs[fetch->job.id] = fetch->job;
      } else if (auto* told = std::get_if<Tell>(&action)) {
        this->told[told->stream].push_back(told->message);
      } else if (auto* check = std::get_if<CheckManifest>(&action)) {
        checks.push_back(*check);
      } else if (auto* cancel = std::get_if<CancelFetch>(&action)) {
        cancelled.insert(cancel->job);
      } else if (auto* retire = std::get_if<RetireWord>(&action)) {
        ++retired;
        changed_words.push_back(retire->word);
      } else if (auto* reset = std::get_if<ResetWord>(&action)) {
        changed_words.push_back(reset->word);
      } else {
        others.push_back(std::move(action));
      }
    }
  }
  void pass(Duration d) {
    now = now + d;
    step();
  }
  void assign(std::vector<RevisionRecord> records, std::vector<Digest> evict = {}) {
    Assignment assignment{.version = ++version, .revisions = records, .evict = std::move(evict)};
    for (const RevisionRecord& record : records) {
      models[record.digest] = record;
      for (const BlockRef& ref : record.blocks) assignment.replicas[ref.id] = {"m0", "m1"};
      for (const BlockRef& ref : record.manifest_blocks) assignment.replicas[ref.id] = {"m1"};
    }
    step({AssignmentCame{std::move(assignment)}});
  }
  void attach(StreamId stream, size_t device) {
    step({ExecutorSpawned{device, {}, static_cast<int64_t>(100 + device)}});
    step({ExecutorSaid{stream, ExecutorReport{.name = "a/host:" + std::to_string(device), .address = "h:1", .incarnation = 5}}});
  }
  void acquire(StreamId stream, uint64_t ticket, uint64_t n, bool urgent = true) {
    step({ExecutorSaid{stream, Acquire{.ticket = ticket, .revision = digest_of(n), .urgent = urgent}}});
  }
  void release(StreamId stream, uint64_t n) { step({ExecutorSaid{stream, ReleaseRevision{digest_of(n)}}}); }
  void end_job(uint64_t job, absl::Status status = {}, std::vector<Digest> missing = {}) {
    ASSERT_TRUE(jobs.contains(job));
    if (!status.ok() && missing.empty()) {
      for (const FetchBlock& block : jobs[job].blocks) missing.push_back(block.ref.id);
    }
    jobs.erase(job);
    step({FetchEnded{{.job = job, .status = std::move(status), .missing = std::move(missing), .bytes = 5}}});
  }
  // Whatever is under way ends well.
  void settle() {
    for (int i = 0; i < 100 && (!jobs.empty() || !checks.empty()); ++i) {
      if (!jobs.empty()) {
        const uint64_t id = jobs.begin()->first;
        const bool was_cancelled = cancelled.contains(id);
        end_job(id, was_cancelled ? absl::CancelledError("") : absl::OkStatus());
      }
      for (const CheckManifest& check : std::exchange(checks, {})) {
        std::vector<BlockEntry> blocks;
        for (const BlockRef& ref : models[check.revision].blocks) blocks.push_back({.ref = ref, .chunk_sums = {1, 2, 3, 4}});
        step({ManifestChecked{check.revision, blocks}});
      }
    }
  }
  template <typename T>
  std::vector<T> take(StreamId stream) {
    std::vector<T> found;
    std::vector<ExecutorDown> rest;
    for (ExecutorDown& message : told[stream]) {
      if (auto* typed = std::get_if<T>(&message)) {
        found.push_back(*typed);
      } else {
        rest.push_back(std::move(message));
      }
    }
    told[stream] = std::move(rest);
    return found;
  }
  template <typename T>
  size_t count() const {
    return static_cast<size_t>(std::count_if(others.begin(), others.end(), [](const Action& a) { return std::holds_alternative<T>(a); }));
  }

  Instant now{1'000'000'000};
  Agent agent;
  uint64_t version = 0;
  std::map<Digest, RevisionRecord> models;
  std::map<uint64_t, FetchJob> jobs;
  std::set<uint64_t> cancelled;
  std::vector<CheckManifest> checks;
  std::map<StreamId, std::vector<ExecutorDown>> told;
  std::vector<Action> others;
  int retired = 0;
  std::vector<uint32_t> changed_words;
};

TEST(Agent, a_revision_comes_manifest_first_then_weights_in_order_while_the_executor_maps_them) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  EXPECT_EQ(w.take<Attached>(7).at(0).cache_path, "/cache");
  w.acquire(7, 42, 1);
  ASSERT_EQ(w.jobs.size(), 1u);
  const FetchJob manifest = w.jobs.begin()->second;
  EXPECT_TRUE(manifest.urgent);
  EXPECT_TRUE(manifest.blocks.at(0).chunk_sums.empty());
  EXPECT_EQ(manifest.blocks.at(0).replicas, std::vector<std::string>{"m1"});
  EXPECT_EQ(manifest.grant_ahead.size(), 3u);
  w.end_job(manifest.id);
  ASSERT_EQ(w.checks.size(), 1u);
  EXPECT_TRUE(w.take<Acquired>(7).empty());
  std::vector<BlockEntry> blocks;
  for (const BlockRef& ref : w.models[digest_of(1)].blocks) blocks.push_back({.ref = ref, .chunk_sums = {9, 9, 9, 9}});
  w.checks.clear();
  w.step({ManifestChecked{digest_of(1), blocks}});
  const auto acquired = w.take<Acquired>(7);
  ASSERT_EQ(acquired.size(), 1u);
  EXPECT_EQ(acquired[0].ticket, 42u);
  EXPECT_TRUE(acquired[0].status.ok());
  EXPECT_EQ(acquired[0].weights.size(), 3u);
  EXPECT_EQ(acquired[0].weights[1].offset_bytes, acquired[0].weights[0].offset_bytes + kMiB);  // Side by side.
  EXPECT_EQ(acquired[0].cached_bytes, 0u);
  ASSERT_EQ(w.jobs.size(), 1u);
  EXPECT_EQ(w.jobs.begin()->second.blocks.at(2).chunk_sums.size(), 4u);
  w.end_job(w.jobs.begin()->first);
  EXPECT_EQ(w.take<FetchDone>(7).at(0).bytes, 5u);
}

TEST(Agent, what_is_cached_is_answered_at_once_also_after_an_executors_death) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.step({StreamEnded{7}});
  EXPECT_EQ(w.agent.counts().cache_pinned_bytes, 0u);
  EXPECT_GT(w.agent.counts().cache_used_bytes, 3 * kMiB);
  w.attach(8, 0);
  w.acquire(8, 2, 1);
  EXPECT_TRUE(w.jobs.empty());
  EXPECT_EQ(w.take<Acquired>(8).at(0).cached_bytes, 3 * kMiB);
  EXPECT_TRUE(w.take<FetchDone>(8).empty());
}

TEST(Agent, two_executors_that_ask_at_once_cost_one_fetch) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  w.acquire(7, 1, 1, false);
  w.acquire(8, 2, 1, true);
  EXPECT_EQ(w.jobs.size(), 1u);
  EXPECT_EQ(w.count<PromoteFetch>(), 1u);
  w.settle();
  EXPECT_EQ(w.take<Acquired>(7).size(), 1u);
  EXPECT_EQ(w.take<Acquired>(8).size(), 1u);
  EXPECT_EQ(w.take<FetchDone>(8).size(), 1u);
}

TEST(Agent, models_that_share_blocks_fetch_only_what_is_new) {
  World w;
  w.assign({model(1, 0, 3), model(2, 2, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.acquire(7, 2, 2);
  w.end_job(w.jobs.begin()->first);
  EXPECT_EQ(w.checks.size(), 1u);
  w.settle();
  EXPECT_EQ(w.take<Acquired>(7).at(1).cached_bytes, kMiB);
}

TEST(Agent, a_revision_that_is_deployed_a_moment_later_is_waited_for) {
  World w;
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.acquire(7, 2, 9);
  w.pass(Duration::from_ms(500));
  w.assign({model(1, 0, 1)});
  w.settle();
  EXPECT_TRUE(w.take<Acquired>(7).at(0).status.ok());
  w.pass(Duration::from_seconds(2));
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kNotFound);
}

TEST(Agent, a_model_larger_than_the_cache_is_refused_with_both_sizes) {
  World w(4 * kMiB);
  w.assign({model(1, 0, 5)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  const auto acquired = w.take<Acquired>(7);
  ASSERT_EQ(acquired.size(), 1u);
  EXPECT_EQ(acquired[0].status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(acquired[0].status.message()), testing::AllOf(testing::HasSubstr("model-1"), testing::HasSubstr("4.0 MiB"), testing::HasSubstr("cache_capacity")));
}

TEST(Agent, an_urgent_revision_displaces_the_least_recently_used_and_waits_for_its_release) {
  World w(8 * kMiB);
  w.assign({model(1, 0, 3), model(2, 10, 3), model(3, 20, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.pass(Duration::from_seconds(1));
  w.acquire(7, 2, 2);
  w.settle();
  w.pass(Duration::from_seconds(1));
  w.acquire(7, 3, 3);
  EXPECT_TRUE(w.jobs.empty());
  const auto evicted = w.take<EvictRevision>(7);
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(evicted[0].revision, digest_of(1));
  EXPECT_EQ(w.retired, 0);  // Nothing that is held leaves.
  w.release(7, 1);
  EXPECT_GT(w.retired, 0);
  w.settle();
  EXPECT_TRUE(w.take<Acquired>(7).at(2).status.ok());
}

TEST(Agent, a_prefetch_displaces_nothing_that_is_held) {
  World w(8 * kMiB);
  w.assign({model(1, 0, 3), model(2, 10, 3), model(3, 20, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.acquire(7, 2, 2);
  w.settle();
  w.acquire(7, 3, 3, false);
  EXPECT_TRUE(w.take<EvictRevision>(7).empty());
  EXPECT_EQ(w.take<Acquired>(7).at(2).status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(Agent, room_that_never_comes_is_refused_in_the_end) {
  World w(8 * kMiB);
  w.assign({model(1, 0, 6), model(2, 10, 6)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.acquire(7, 2, 2);
  w.pass(Duration::from_seconds(29));
  EXPECT_EQ(w.take<Acquired>(7).size(), 1u);
  w.step({ExecutorSaid{7, ExecutorReport{.name = "a/host:0"}}});
  w.pass(Duration::from_seconds(2));
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(Agent, an_evicted_revision_leaves_when_its_holders_let_go) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.assign({model(1, 0, 3)}, {digest_of(1)});
  EXPECT_EQ(w.take<EvictRevision>(7).size(), 1u);
  EXPECT_GT(w.agent.counts().cache_used_bytes, 0u);
  w.release(7, 1);
  EXPECT_EQ(w.agent.counts().cache_used_bytes, 0u);
  w.acquire(7, 2, 1);  // And comes back when asked for.
  w.settle();
  EXPECT_EQ(w.take<Acquired>(7).at(1).cached_bytes, 0u);
}

TEST(Agent, an_eviction_is_carried_out_once_per_version) {
  World w;
  w.assign({model(1, 0, 1)}, {digest_of(1)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  --w.version;  // The same assignment again, after a reconnect.
  w.assign({model(1, 0, 1)}, {digest_of(1)});
  EXPECT_TRUE(w.take<EvictRevision>(7).empty());
}

TEST(Agent, a_revision_no_longer_deployed_leaves_and_is_unknown) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.assign({});
  EXPECT_EQ(w.take<EvictRevision>(7).size(), 1u);
  w.release(7, 1);
  EXPECT_EQ(w.agent.counts().cache_used_bytes, 0u);
}

TEST(Agent, a_failed_fetch_is_tried_again_with_back_off_and_given_up) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  int tries = 0;
  for (int i = 0; i < 200 && w.take<Acquired>(7).empty(); ++i) {
    if (!w.jobs.empty()) {
      ++tries;
      w.end_job(w.jobs.begin()->first, absl::UnavailableError("nobody holds it"));
      EXPECT_TRUE(w.jobs.empty());  // Not at once.
      if (tries == 4) break;
    }
    w.step({ExecutorSaid{7, ExecutorReport{.name = "a/host:0"}}});
    w.pass(Duration::from_ms(200));
  }
  EXPECT_EQ(tries, 4);
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(w.agent.counts().cache_pinned_bytes, 0u);
  w.acquire(7, 2, 1);  // Who asks again gets another chance.
  w.settle();
  EXPECT_TRUE(w.take<Acquired>(7).at(0).status.ok());
}

TEST(Agent, corrupt_everywhere_is_told_to_the_holders_without_another_try) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.end_job(w.jobs.begin()->first);
  std::vector<BlockEntry> blocks;
  for (const BlockRef& ref : w.models[digest_of(1)].blocks) blocks.push_back({.ref = ref, .chunk_sums = {1, 1, 1, 1}});
  w.checks.clear();
  w.step({ManifestChecked{digest_of(1), blocks}});
  w.end_job(w.jobs.begin()->first, absl::DataLossError("block came corrupt"), {digest_of(2001)});
  EXPECT_EQ(w.take<FetchDone>(7).at(0).status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(w.jobs.empty());
  w.acquire(7, 2, 1);
  ASSERT_EQ(w.jobs.size(), 1u);
  EXPECT_EQ(w.jobs.begin()->second.blocks.size(), 1u);  // Only what is missing.
}

TEST(Agent, a_manifest_that_contradicts_the_catalogue_is_refused) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.end_job(w.jobs.begin()->first);
  w.step({ManifestChecked{digest_of(1), std::vector<BlockEntry>{}}});
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(w.agent.counts().cache_pinned_bytes, 0u);
}

TEST(Agent, bytes_stay_pinned_until_the_cancelled_fetch_writes_no_more) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.step({StreamEnded{7}});
  EXPECT_EQ(w.cancelled.size(), 1u);
  EXPECT_GT(w.agent.counts().cache_pinned_bytes, 0u);
  w.settle();
  EXPECT_EQ(w.agent.counts().cache_pinned_bytes, 0u);
}

TEST(Agent, wanted_chunks_reach_the_fetcher_as_blocks) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  w.settle();
  w.step({ExecutorSaid{7, Want{.revision = digest_of(1), .chunks = {{.block = 2, .chunks = 5}, {.block = 99, .chunks = 1}}}}});
  ASSERT_EQ(w.count<WantBlock>(), 1u);
  EXPECT_EQ(std::get<WantBlock>(w.others.back()).block, digest_of(2002));
}

TEST(Agent, executors_are_spawned_restarted_with_back_off_and_killed_when_silent) {
  World w;
  w.step();
  EXPECT_EQ(w.count<SpawnExecutor>(), 2u);
  w.step({ExecutorSpawned{0, {}, 100}, ExecutorSpawned{1, {}, 101}});
  w.step({ExecutorExited{0, 100, "exit 1"}});
  EXPECT_EQ(w.count<SpawnExecutor>(), 2u);
  w.pass(Duration::from_ms(250));
  EXPECT_EQ(w.count<SpawnExecutor>(), 3u);
  w.step({ExecutorSpawned{0, {}, 102}});
  w.step({ExecutorExited{0, 102, "exit 1"}});
  w.pass(Duration::from_ms(250));
  EXPECT_EQ(w.count<SpawnExecutor>(), 3u);  // Twice as long.
  w.pass(Duration::from_ms(250));
  EXPECT_EQ(w.count<SpawnExecutor>(), 4u);
  w.pass(Duration::from_seconds(61));  // Device 1 never reported.
  EXPECT_EQ(w.count<KillExecutor>(), 1u);
  w.step({ExecutorExited{1, 101, "signal 9"}});
  EXPECT_EQ(w.agent.executors().at(0).restarts, 2u);
  EXPECT_EQ(w.agent.executors().at(1).restarts, 1u);
}

TEST(Agent, strangers_are_turned_away) {
  World w;
  w.step({ExecutorSaid{9, Acquire{.revision = digest_of(1)}}});
  w.step({ExecutorSaid{10, ExecutorReport{.name = "b/host:0"}}});
  EXPECT_EQ(w.count<CloseStream>(), 2u);
}

TEST(Agent, draining_ends_the_executors_and_starts_none) {
  World w;
  w.attach(7, 0);
  w.attach(8, 1);
  w.step({DrainBegan{}});
  EXPECT_EQ(w.take<DrainExecutor>(7).size(), 1u);
  EXPECT_FALSE(w.agent.drained());
  w.step({ExecutorExited{0, 100, "exit 0"}, ExecutorExited{1, 101, "exit 0"}});
  EXPECT_TRUE(w.agent.drained());
  w.others.clear();
  w.pass(Duration::from_seconds(10));
  EXPECT_EQ(w.count<SpawnExecutor>(), 0u);
}

TEST(Agent, prefetch_is_told_once_and_again_when_it_changes) {
  World w;
  w.attach(7, 0);
  EXPECT_TRUE(w.take<Prefetch>(7).empty());
  Assignment assignment{.version = 1, .revisions = {model(1, 0, 1)}, .prefetch = {{"host:0", {digest_of(1)}}}};
  w.step({AssignmentCame{assignment}});
  w.step({AssignmentCame{assignment}});
  EXPECT_EQ(w.take<Prefetch>(7).size(), 1u);
  assignment.prefetch.clear();
  w.step({AssignmentCame{assignment}});
  EXPECT_TRUE(w.take<Prefetch>(7).at(0).revisions.empty());
}

// Random executors, fetches and evictions: what is held stays whole and in place, and calm leaves nothing pinned.
RC_GTEST_PROP(AgentProperties, held_bytes_never_move_and_everything_settles, ()) {
  Rng rng(*rc::gen::arbitrary<uint64_t>());
  World w(12 * kMiB);
  std::vector<RevisionRecord> records;
  for (uint64_t m = 0; m < 5; ++m) records.push_back(model(m, rng.below(12), 1 + rng.below(6)));
  w.assign(records);
  std::map<size_t, StreamId> streams;
  StreamId next_stream = 1;
  uint64_t next_ticket = 1;
  std::map<uint64_t, std::pair<StreamId, Digest>> tickets;  // Not answered yet.
  std::map<std::pair<StreamId, Digest>, std::vector<CacheExtent>> held;
  const auto collect = [&] {
    for (const uint32_t word : std::exchange(w.changed_words, {})) {
      for (const auto& [holder, extents] : held) {
        for (const CacheExtent& extent : extents) RC_ASSERT(extent.word != word);
      }
    }
    for (const auto& [device, stream] : streams) {
      for (const Acquired& acquired : w.take<Acquired>(stream)) {
        const auto asked = tickets.find(acquired.ticket);
        RC_ASSERT(asked != tickets.end());  // Each is answered once.
        if (acquired.status.ok()) {
          const auto before = held.find(asked->second);
          if (before != held.end()) RC_ASSERT(before->second.front().offset_bytes == acquired.weights.front().offset_bytes);
          held[asked->second] = acquired.weights;
        }
        tickets.erase(asked);
      }
    }
    std::map<uint64_t, uint64_t> runs;  // Offset -> end, over everything held: equal or apart.
    for (const auto& [holder, extents] : held) {
      for (const CacheExtent& extent : extents) runs[extent.offset_bytes] = extent.offset_bytes + extent.size_bytes;
    }
    uint64_t end = 0;
    for (const auto& [begin, run_end] : runs) {
      RC_ASSERT(end <= begin);
      end = run_end;
    }
  };
  const auto release = [&](StreamId stream, const Digest& revision) {
    held.erase({stream, revision});
    w.step({ExecutorSaid{stream, ReleaseRevision{revision}}});
  };
  for (int step = 0; step < 150; ++step) {
    const size_t device = rng.below(2);
    const bool attached = streams.contains(device);
    switch (rng.below(9)) {
      case 0:
        if (attached) break;
        streams[device] = next_stream++;
        w.attach(streams[device], device);
        break;
      case 1:
      case 2: {
        if (!attached) break;
        const uint64_t m = rng.below(5);
        tickets[next_ticket] = {streams[device], digest_of(m)};
        w.acquire(streams[device], next_ticket++, m, rng.below(2) == 0);
        break;
      }
      case 3:
        if (attached) release(streams[device], digest_of(rng.below(5)));
        break;
      case 4: {
        if (!attached || rng.below(4) != 0) break;
        const StreamId stream = streams[device];
        streams.erase(device);
        std::erase_if(held, [&](const auto& entry) { return entry.first.first == stream; });
        std::erase_if(tickets, [&](const auto& entry) { return entry.second.first == stream; });
        w.step({StreamEnded{stream}, ExecutorExited{device, static_cast<int64_t>(100 + device), "signal 9"}});
        break;
      }
      case 5: {
        if (w.jobs.empty()) break;
        const uint64_t id = w.jobs.begin()->first;
        if (w.cancelled.contains(id)) {
          w.end_job(id, absl::CancelledError(""));
        } else {
          w.end_job(id, rng.below(4) == 0 ? absl::UnavailableError("x") : absl::OkStatus());
        }
        break;
      }
      case 6: w.settle(); break;
      case 7: w.assign(records, rng.below(3) == 0 ? std::vector<Digest>{digest_of(rng.below(5))} : std::vector<Digest>{}); break;
      case 8: w.pass(Duration::from_ms(static_cast<int64_t>(rng.below(400)))); break;
    }
    collect();
    for (const auto& [d, stream] : streams) {
      for (const EvictRevision& evict : w.take<EvictRevision>(stream)) {
        if (rng.below(3) != 0) release(stream, evict.revision);
      }
    }
    collect();
  }
  for (const auto& [device, stream] : streams) w.step({StreamEnded{stream}});
  w.settle();
  w.pass(Duration::from_seconds(40));
  w.settle();
  RC_ASSERT(w.jobs.empty());
  RC_ASSERT(w.agent.counts().cache_pinned_bytes == 0u);
}

}  // namespace
}  // namespace cenote::node
