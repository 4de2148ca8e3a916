// Goal: the controller refuses what can never be served, waits without spinning, and writes each change whole.
// Method: the scripted members of controller_world.h.
#include <numeric>
#include <set>

#include "controller_world.h"

namespace cenote::node {
namespace {

ControllerOptions two_agents() {
  ControllerOptions options = World::defaults();
  options.agent_devices = {{"agent-0", {"host:0"}}, {"agent-1", {"host:0"}}};
  return options;
}

void join_agent(World& world, const std::string& name, uint64_t cache_bytes) {
  world.join(name, Role::kAgent);
  world.alive.at(name).cache_capacity_bytes = cache_bytes;
  world.feed(Reported{world.stream_of.at(name), world.alive.at(name)});
}

absl::StatusOr<DeployPlan> begin_needing(World& world, uint64_t cache_bytes) {
  const CallId call = world.next_call++;
  world.feed(BeginAsked{call, {.name = "wide", .blocks = {block(1)}, .client = "test", .cache_bytes = cache_bytes}, world.now + ms(10'000)});
  return world.plans.at(call);
}

TEST(ControllerLimitsTest, a_model_larger_than_every_cache_is_refused_at_begin_with_both_sizes_and_the_remedy) {
  World world(two_agents());
  world.join("memory-0", Role::kMemory);
  join_agent(world, "agent-0", 16 * kMiB);
  join_agent(world, "agent-1", 64 * kMiB);
  EXPECT_TRUE(begin_needing(world, 64 * kMiB).ok());
  const absl::Status refused = begin_needing(world, 64 * kMiB + 1).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  for (const char* word : {"wide", "64.0 MiB", "agent-1", "agent.cache_capacity"}) EXPECT_THAT(std::string(refused.message()), HasSubstr(word));
}

TEST(ControllerLimitsTest, an_agent_that_was_never_heard_of_may_have_room_and_one_that_is_lost_is_remembered) {
  World world(two_agents());
  world.join("memory-0", Role::kMemory);
  join_agent(world, "agent-0", 16 * kMiB);
  EXPECT_TRUE(begin_needing(world, 64 * kMiB).ok());
  join_agent(world, "agent-1", 64 * kMiB);
  world.die("agent-1");
  world.wait(ms(3'000));
  EXPECT_TRUE(begin_needing(world, 64 * kMiB).ok());
  EXPECT_FALSE(begin_needing(world, 65 * kMiB).ok());
}

TEST(ControllerLimitsTest, only_caches_of_hosts_that_may_serve_the_name_count) {
  ControllerOptions options = two_agents();
  options.device_models = {{"agent-0/host:0", {}}, {"agent-1/host:0", {"other"}}};
  World world(options);
  world.join("memory-0", Role::kMemory);
  join_agent(world, "agent-0", 16 * kMiB);
  join_agent(world, "agent-1", 64 * kMiB);
  EXPECT_FALSE(begin_needing(world, 32 * kMiB).ok());
}

TEST(ControllerLimitsTest, a_server_that_left_before_its_inventory_came_keeps_nobody_awake) {
  World world;
  MemberReport report{.name = "memory-0", .role = Role::kMemory, .incarnation = 1, .address = "memory-0:1"};
  world.feed(Reported{1, report});
  world.feed(StreamEnded{1});
  world.now = world.now + ms(1'500);  // Past the next question, before the member counts as lost.
  world.step();
  EXPECT_GT(world.controller().next_deadline(), world.now);
}

TEST(ControllerLimitsTest, a_publish_that_the_store_refused_says_nothing_about_the_next_deploy) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  world.store_status = absl::ResourceExhaustedError("disk full");
  const CallId refused = world.call(PublishAsked{.model = "bert", .tag = "v1"});
  EXPECT_FALSE(world.moves.at(refused).ok());
  world.store_status = absl::OkStatus();
  const auto plan = world.begin("gpt", {2, 1001});
  const CallId commit = world.commit(plan->deploy, record_of(1, "gpt", {2}));  // The servers' reports come a moment later.
  EXPECT_FALSE(world.commits.contains(commit));
  world.said("memory-0", {2, 1001});
  EXPECT_TRUE(world.commits.at(commit).ok());
}

TEST(ControllerLimitsTest, an_inventory_of_more_blocks_than_an_event_holds_becomes_several) {
  World world;
  world.step();  // The catalogue begins.
  world.hold_appends = true;
  world.join("memory-0", Role::kMemory);
  MemberReport report = world.alive.at("memory-0");
  report.inventory = true;
  for (uint32_t n = 0; n < kEventBlocksMax + 1; ++n) report.held.push_back(block(n));
  world.feed(Reported{world.stream_of.at("memory-0"), report});
  ASSERT_EQ(world.held_appends.size(), 1u);
  EXPECT_EQ(world.held_appends[0].events.size(), 2u);
  for (const CatalogueEvent& event : world.held_appends[0].events) EXPECT_TRUE(check_event(event).ok());
}

TEST(ControllerLimitsTest, deploys_that_wait_for_drops_are_bounded) {
  TwoServers world;
  world.wait(ms(60'000));
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  world.call(RemoveAsked{.model = "bert"});  // The servers do not confirm: block 1 is being dropped.
  for (size_t i = 0; i < Controller::kDeploysMax; ++i) EXPECT_EQ(world.begin(str_cat("m", i), {1}).status().code(), StatusCode::kInternal) << "it waits";
  EXPECT_EQ(world.begin("more", {1}).status().code(), StatusCode::kResourceExhausted);
}

// Two incarnations joined while the store was busy, and then it refused: what the living one holds is asked for again.
TEST(ControllerLimitsTest, what_a_newer_incarnation_holds_is_asked_for_again_when_the_store_refuses_it) {
  World world;
  world.join("memory-0", Role::kMemory, 1, {1});
  world.join("memory-1", Role::kMemory);
  world.hold_appends = true;
  world.said("memory-1", {9});
  for (const Incarnation incarnation : {2, 3}) {
    world.die("memory-0");
    world.join("memory-0", Role::kMemory, incarnation);
  }
  world.hold_appends = false;
  world.store_status = absl::ResourceExhaustedError("disk full");
  world.feed(Appended{absl::OkStatus()});
  EXPECT_EQ(world.controller().catalogue().replicas(id_of(1)).size(), 1u);  // It could not be written down.
  world.store_status = absl::OkStatus();
  world.wait(ms(1500));
  const auto* directive = world.last_told<MemoryDirective>("memory-0");
  ASSERT_NE(directive, nullptr);
  EXPECT_TRUE(directive->send_inventory);
}

// Two agents, and as many blocks as one step tells of.
struct LargeCatalogue : World {
  // But for `absent` all are on memory-0.
  explicit LargeCatalogue(const std::set<uint32_t>& absent = {}) {
    std::vector<uint32_t> weights(Controller::kToldPerStep);
    std::iota(weights.begin(), weights.end(), 10'000);
    std::vector<uint32_t> held = weights;
    std::erase_if(held, [&](uint32_t n) { return absent.contains(n); });
    Catalogue catalogue;
    EXPECT_TRUE(catalogue.apply(LineageSet{lineage, ""}).ok());
    EXPECT_TRUE(catalogue.apply(RevisionSealed{record_of(1, "bert", weights)}).ok());
    restart(defaults(), std::move(catalogue));
    join("memory-0", Role::kMemory, 1, held);
    join("memory-1", Role::kMemory);
    for (const char* agent : {"agent-0", "agent-1"}) join(agent, Role::kAgent);
    wait(ms(5'000));
  }
  size_t assignments(const std::string& agent) {
    const std::vector<Directive>& all = told[stream_of.at(agent)];
    return static_cast<size_t>(std::count_if(all.begin(), all.end(), [](const Directive& d) { return std::holds_alternative<Assignment>(d); }));
  }
  // Agents that one step tells anew.
  size_t told_in_step(std::vector<ControllerEvent> events) {
    std::vector<ControllerAction> actions;
    controller().step(now, events, actions);
    return static_cast<size_t>(std::count_if(actions.begin(), actions.end(), [](const ControllerAction& action) {
      const auto* sent = std::get_if<SendDirective>(&action);
      return sent != nullptr && std::holds_alternative<Assignment>(sent->directive);
    }));
  }
};

TEST(ControllerLimitsTest, of_a_large_catalogue_one_agent_is_told_in_a_step_and_the_next_at_once) {
  LargeCatalogue world;
  MemberReport moved = world.alive.at("memory-0");
  moved.memory.fabric_address = "elsewhere";
  EXPECT_EQ(world.told_in_step({Reported{world.stream_of.at("memory-0"), moved}}), 1u);
  EXPECT_LE(world.controller().next_deadline(), world.now);
  moved.memory.fabric_address = "back again";  // Before agent-1 has heard of the first.
  EXPECT_EQ(world.told_in_step({Reported{world.stream_of.at("memory-0"), moved}}), 1u);
  EXPECT_EQ(world.told_in_step({}), 1u) << "agent-0 of the second";
  EXPECT_EQ(world.told_in_step({}), 0u) << "agent-1 heard of both together";
  EXPECT_GT(world.controller().next_deadline(), world.now);
}

TEST(ControllerLimitsTest, of_a_large_catalogue_replicas_that_come_one_by_one_are_told_of_rarely) {
  LargeCatalogue world;
  const Duration every = Controller::kReplicaNewsPerBlock * (2 * int64_t{Controller::kToldPerStep});
  ASSERT_GT(every, ms(1'250));
  world.said("memory-1", {10'000});
  world.wait(ms(250));
  const size_t before = world.assignments("agent-0");
  world.said("memory-1", {10'001});
  world.wait(ms(1'000));
  EXPECT_EQ(world.assignments("agent-0"), before);
  world.wait(ms(1'000));
  EXPECT_EQ(world.assignments("agent-0"), before + 1);
  EXPECT_EQ(world.last_told<Assignment>("agent-1")->replicas.at(id_of(10'001)).size(), 2u);
}

TEST(ControllerLimitsTest, of_a_large_catalogue_a_block_that_can_be_read_again_is_told_of_at_once) {
  LargeCatalogue world({10'001});
  ASSERT_TRUE(world.last_told<Assignment>("agent-0")->replicas.at(id_of(10'001)).empty());
  world.said("memory-1", {10'000});
  world.wait(ms(100));  // Told of; the next of its kind comes rarely.
  world.said("memory-1", {10'001});
  world.wait(ms(100));
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->replicas.at(id_of(10'001)).size(), 1u);
}

TEST(ControllerLimitsTest, of_a_large_catalogue_who_joins_anew_waits_for_no_round_to_end) {
  LargeCatalogue world;
  MemberReport moved = world.alive.at("memory-0");
  moved.memory.fabric_address = "elsewhere";
  EXPECT_EQ(world.told_in_step({Reported{world.stream_of.at("memory-0"), moved}}), 1u) << "agent-0; agent-1 is left";
  world.join("agent-0", Role::kAgent);
  EXPECT_NE(world.last_told<Assignment>("agent-0"), nullptr);
}

}  // namespace
}  // namespace cenote::node
