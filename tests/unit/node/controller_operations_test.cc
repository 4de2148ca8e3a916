// Goal: a change that is asked for again under the same operation is made once and answered each time, also by the next controller; and
// what was evicted stays so over a restart. Method: the scripted members of controller_world.h; a restart replays what was stored.
#include "controller_world.h"

namespace cenote::node {
namespace {

const std::string kFirst(kOperationIdBytes, '1'), kSecond(kOperationIdBytes, '2');

// The next controller, with what this one's store acknowledged.
std::unique_ptr<World> restarted(const World& world) {
  auto next = std::make_unique<World>();
  Catalogue catalogue;
  for (const CatalogueEvent& event : world.stored) EXPECT_TRUE(catalogue.apply(event).ok());
  EXPECT_EQ(catalogue.fingerprint(), world.controller().catalogue().fingerprint());
  for (const CatalogueEvent& event : world.stored) next->stored.push_back(event);
  next->restart(World::defaults(), std::move(catalogue));
  return next;
}

struct TwoRevisions : TwoServers {
  TwoRevisions() {
    EXPECT_TRUE(deploy(record_of(0, "bert", {1})).ok());
    EXPECT_TRUE(deploy(record_of(1, "bert", {2}), true).ok());
  }
  Digest latest() const { return controller().catalogue().tag("bert", "latest")->revision; }
};

TEST(ControllerOperationsTest, a_rollback_asked_for_twice_is_made_once) {
  TwoRevisions world;
  ASSERT_TRUE(world.deploy(record_of(2, "bert", {3}), true).ok());
  const CallId first = world.call(RollbackAsked{.model = "bert", .operation = kFirst});
  ASSERT_TRUE(world.moves.at(first).ok());
  const CallId again = world.call(RollbackAsked{.model = "bert", .operation = kFirst});
  EXPECT_EQ(world.moves.at(again)->revision, world.moves.at(first)->revision);
  EXPECT_EQ(world.moves.at(again)->previous, world.moves.at(first)->previous);
  EXPECT_EQ(world.latest(), id_of(5001));
  world.call(RollbackAsked{.model = "bert", .operation = kSecond});
  EXPECT_EQ(world.latest(), id_of(5000));
}

TEST(ControllerOperationsTest, the_next_controller_answers_what_the_last_one_stored) {
  TwoRevisions world;
  const CallId rolled = world.call(RollbackAsked{.model = "bert", .operation = kFirst});
  const CallId removed = world.call(RemoveAsked{.model = "bert", .operation = kSecond});
  ASSERT_TRUE(world.removals.at(removed).ok());
  const auto next = restarted(world);
  const CallId rolled_again = next->call(RollbackAsked{.model = "bert", .operation = kFirst});
  EXPECT_EQ(next->moves.at(rolled_again)->revision, world.moves.at(rolled)->revision);
  const CallId removed_again = next->call(RemoveAsked{.model = "bert", .operation = kSecond});
  ASSERT_TRUE(next->removals.at(removed_again).ok());
  EXPECT_EQ(next->removals.at(removed_again)->revisions, world.removals.at(removed)->revisions);
  EXPECT_EQ(next->removals.at(removed_again)->freed_bytes, 4 * 4096u);
  EXPECT_EQ(world.removals.at(removed)->freed_bytes, 4 * 4096u);
}

TEST(ControllerOperationsTest, a_deploy_whose_answer_was_lost_is_answered_at_begin) {
  TwoServers world;
  DeployRequest request{.name = "bert", .blocks = {block(1), block(1000)}, .client = "test", .operation = kFirst};
  const CallId begin = world.call(BeginAsked{.request = request, .deadline = world.now + ms(10'000)});
  world.said("memory-0", {1, 1000});
  const CallId commit = world.call(CommitAsked{.deploy = world.plans.at(begin)->deploy, .record = record_of(0, "bert", {1}), .deadline = world.now + ms(10'000), .operation = kFirst});
  ASSERT_TRUE(world.commits.at(commit).ok());
  const auto next = restarted(world);
  const CallId again = next->call(BeginAsked{.request = request, .deadline = next->now + ms(10'000)});
  ASSERT_TRUE(next->plans.at(again).ok()) << next->plans.at(again).status();
  EXPECT_EQ(next->plans.at(again)->done->digest, id_of(5000));
  EXPECT_FALSE(next->plans.at(again)->done->already_existed);
  request.operation = kSecond;
  const CallId another = next->call(BeginAsked{.request = request, .deadline = next->now + ms(10'000)});
  EXPECT_EQ(next->plans.at(another).status().code(), StatusCode::kAlreadyExists);
}

TEST(ControllerOperationsTest, an_operations_id_does_not_stand_for_two_requests) {
  TwoRevisions world;
  ASSERT_TRUE(world.moves.at(world.call(RollbackAsked{.model = "bert", .operation = kFirst})).ok());
  const CallId other = world.call(RemoveAsked{.model = "bert", .operation = kFirst});
  EXPECT_EQ(world.removals.at(other).status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(world.controller().catalogue().find(id_of(5000)), nullptr);
}

TEST(ControllerOperationsTest, two_tries_that_wait_together_are_one_change) {
  TwoRevisions world;
  ASSERT_TRUE(world.deploy(record_of(2, "bert", {3}), true).ok());
  world.hold_appends = true;
  const CallId first = world.call(RollbackAsked{.model = "bert", .operation = kFirst});
  const CallId second = world.call(RollbackAsked{.model = "bert", .operation = kFirst});
  ASSERT_EQ(world.held_appends.size(), 1u);
  world.hold_appends = false;
  world.feed(Appended{absl::OkStatus()});
  EXPECT_EQ(world.moves.at(first)->revision, world.moves.at(second)->revision);
  EXPECT_EQ(world.latest(), id_of(5001));
}

TEST(ControllerOperationsTest, what_was_evicted_is_not_prefetched_after_a_restart_until_it_is_published) {
  TwoRevisions world;
  ASSERT_TRUE(world.dones.at(world.call(EvictAsked{.model = "bert:latest"})).ok());
  const auto next = restarted(world);
  next->join("memory-0", Role::kMemory, 1, {1, 2, 1000, 1001});
  next->join("agent-0", Role::kAgent);
  next->wait(ms(2'500));
  const auto wanted = [&] { return next->last_told<Assignment>("agent-0")->prefetch.at("host:0"); };
  EXPECT_TRUE(wanted().empty());
  ASSERT_TRUE(next->moves.at(next->call(PublishAsked{.model = "bert@" + id_of(5001).hex(), .tag = "v2"})).ok());
  EXPECT_EQ(wanted(), std::vector{id_of(5001)});
}

TEST(ControllerOperationsTest, an_eviction_that_cannot_be_stored_is_refused) {
  TwoRevisions world;
  world.store_status = absl::ResourceExhaustedError("disk full");
  EXPECT_EQ(world.dones.at(world.call(EvictAsked{.model = "bert"})).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.controller().catalogue().evicted().empty());
}

TEST(ControllerOperationsTest, a_deploy_that_begins_before_the_members_are_back_waits_for_them) {
  ControllerOptions options = World::defaults();
  options.expected = {"memory-0"};
  World world(options);
  const CallId call = world.call(BeginAsked{.request = {.name = "bert", .blocks = {block(1)}, .client = "test"}, .deadline = world.now + ms(10'000)});
  EXPECT_FALSE(world.plans.contains(call));
  world.join("memory-0", Role::kMemory);
  ASSERT_TRUE(world.plans.at(call).ok()) << world.plans.at(call).status();
}

}  // namespace
}  // namespace cenote::node
