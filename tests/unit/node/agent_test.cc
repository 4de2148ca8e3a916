// Goal: the agent gives executors what they acquire, fetches each block once, never takes what is held, and outlives every failure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent_world.h"

namespace cenote::node {
namespace {

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

TEST(Agent, what_nobody_had_in_use_is_checked_before_it_is_used_again) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  w.acquire(7, 1, 1);
  w.settle();
  w.acquire(8, 2, 1);  // Somebody has it in use: nothing to check.
  EXPECT_TRUE(w.jobs.empty());
  w.release(8, 1);
  w.step({StreamEnded{7}});
  w.attach(9, 0);
  w.acquire(9, 3, 1);
  ASSERT_EQ(w.jobs.size(), 1u);  // The manifest's, whose bytes say what the rest must be.
  EXPECT_TRUE(w.jobs.begin()->second.blocks.at(0).kept);
  EXPECT_TRUE(w.take<Acquired>(9).empty());
  w.end_job(w.jobs.begin()->first);
  EXPECT_EQ(w.take<Acquired>(9).at(0).cached_bytes, 3 * kMiB);
  ASSERT_EQ(w.jobs.size(), 1u);
  const FetchJob weights = w.jobs.begin()->second;
  ASSERT_EQ(weights.blocks.size(), 3u);
  for (const FetchBlock& block : weights.blocks) EXPECT_TRUE(block.kept);
  w.end_job(weights.id, absl::UnavailableError("m0 is gone"), {weights.blocks[1].ref.id});  // It had changed, and is not to be had now.
  w.pass(Duration::from_seconds(2));
  ASSERT_EQ(w.jobs.size(), 1u);
  ASSERT_EQ(w.jobs.begin()->second.blocks.size(), 1u);
  EXPECT_TRUE(w.jobs.begin()->second.blocks[0].kept);  // Looked at once more: it costs little.
}

TEST(Agent, what_is_cached_is_answered_at_once_also_after_an_executors_death_where_memory_is_trusted) {
  World w(16 * kMiB, false);
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
  EXPECT_EQ(acquired[0].status.code(), absl::StatusCode::kOutOfRange);
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

TEST(Agent, an_evicted_or_removed_revision_also_leaves_devices_that_hold_a_copy_of_it) {
  World w;
  w.assign({model(1, 0, 3), model(2, 10, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  for (const uint64_t n : {1, 2}) {
    w.acquire(7, n, n);
    w.settle();
    w.release(7, n);
  }
  const auto state = [](uint64_t n) { return RevisionState{.revision = digest_of(n), .readiness = Readiness::kResident}; };
  w.step({ExecutorSaid{7, ExecutorReport{.name = "a/host:0", .address = "h:1", .incarnation = 5, .revisions = {state(1), state(2)}}}});
  w.assign({model(1, 0, 3), model(2, 10, 3)}, {digest_of(1)});
  const auto evicted = w.take<EvictRevision>(7);
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(evicted[0].revision, digest_of(1));
  w.assign({model(1, 0, 3)});
  EXPECT_EQ(w.take<EvictRevision>(7).at(0).revision, digest_of(2));
  EXPECT_TRUE(w.take<EvictRevision>(8).empty());
}

TEST(Agent, a_prefetch_that_is_under_way_when_its_revision_is_evicted_is_called_off_and_a_request_is_not) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  w.acquire(7, 1, 1, false);
  ASSERT_EQ(w.jobs.size(), 1u);
  w.assign({model(1, 0, 3)}, {digest_of(1)});
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kCancelled);
  w.acquire(7, 2, 1, false);  // Sent before it heard of that.
  EXPECT_EQ(w.take<Acquired>(7).at(0).status.code(), absl::StatusCode::kCancelled);
  w.settle();
  EXPECT_TRUE(w.jobs.empty());
  EXPECT_EQ(w.agent.counts().cache_used_bytes, 0u);
  w.acquire(8, 3, 1);
  w.settle();
  EXPECT_TRUE(w.take<Acquired>(8).at(0).status.ok());
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

TEST(Agent, a_revision_assigned_again_while_it_is_evicted_is_given_to_who_asks_though_its_holder_keeps_it) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  w.acquire(7, 1, 1);
  w.settle();
  w.assign({model(1, 0, 3)}, {digest_of(1)});  // Evicted; its holder is busy.
  w.acquire(8, 1, 1);
  EXPECT_TRUE(w.take<Acquired>(8).empty());
  w.assign({model(1, 0, 3)});                   // Published anew.
  ASSERT_EQ(w.take<Acquired>(8).size(), 1u);
}

TEST(Agent, a_revision_on_its_way_out_is_not_fetched_for_who_asks_for_it_since) {
  World w;
  w.assign({model(1, 0, 3), model(2, 10, 3)});
  w.attach(7, 0);
  w.attach(8, 1);
  w.acquire(7, 1, 1);
  w.settle();
  w.assign({model(2, 10, 3)});    // Removed; its holder has not let go.
  w.acquire(8, 1, 1);
  w.assign({model(2, 10, 3)});
  w.release(7, 1);
  w.settle();
  EXPECT_EQ(w.agent.counts().cache_used_bytes, 0u);
  w.step({ExecutorSaid{8, ExecutorReport{.name = "a/host:1"}}});
  w.pass(Duration::from_seconds(2));
  EXPECT_EQ(w.take<Acquired>(8).at(0).status.code(), absl::StatusCode::kNotFound);
}

TEST(Agent, a_retry_that_an_eviction_holds_up_asks_for_no_step_until_its_holder_lets_go) {
  World w;
  w.assign({model(1, 0, 3)});
  w.attach(7, 0);
  w.acquire(7, 1, 1);
  for (int i = 0; i < 10 && w.take<Acquired>(7).empty(); ++i) {  // Held once its manifest is there.
    if (!w.jobs.empty()) w.end_job(w.jobs.begin()->first);
    for (const CheckManifest& check : std::exchange(w.checks, {})) {
      std::vector<BlockEntry> blocks;
      for (const BlockRef& ref : w.models[check.revision].blocks) blocks.push_back({.ref = ref, .chunk_sums = {1, 2, 3, 4}});
      w.step({ManifestChecked{check.revision, blocks}});
    }
  }
  ASSERT_FALSE(w.jobs.empty());
  w.end_job(w.jobs.begin()->first, absl::UnavailableError("nobody holds it"));
  w.assign({model(1, 0, 3)}, {digest_of(1)});
  w.pass(Duration::from_seconds(1));
  EXPECT_GT(w.agent.next_step(w.now), w.now);
  w.release(7, 1);
  EXPECT_EQ(w.agent.counts().cache_used_bytes, 0u);
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

}  // namespace
}  // namespace cenote::node
