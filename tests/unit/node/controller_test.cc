// Goal: the catalogue is what the store acknowledged; members come, go and are told what holds; a deploy is visible whole or not at all;
// no block that a revision or a deploy needs is dropped.
// Method: scripted events with a world of memory servers that obey directives.
#include "controller_world.h"

namespace cenote::node {
namespace {

// ---- members -----------------------------------------------------------------------------------------------------------
TEST(ControllerMembersTest, a_second_member_of_a_live_name_is_refused_and_the_first_stays) {
  World world;
  world.join("memory-0", Role::kMemory, 1);
  const MemberReport first = world.alive.at("memory-0");
  const StreamId second = world.join("memory-0", Role::kMemory, 2);
  ASSERT_TRUE(world.refusals.contains(second));
  EXPECT_THAT(std::string(world.refusals.at(second).message()), HasSubstr("name of its own"));
  world.feed(Reported{second, world.alive.at("memory-0")});
  const CallId call = world.call(ClusterAsked{});
  ASSERT_EQ(world.clusters.at(call)->members.size(), 2u);
  EXPECT_EQ(world.clusters.at(call)->members[1].incarnation, first.incarnation);
}

TEST(ControllerMembersTest, a_member_that_restarted_takes_its_own_place) {
  World world;
  world.join("memory-0", Role::kMemory, 1, {7});
  EXPECT_EQ(world.controller().catalogue().replicas(id_of(7)).size(), 1u);
  world.die("memory-0");
  const StreamId second = world.join("memory-0", Role::kMemory, 2);
  EXPECT_FALSE(world.refusals.contains(second));
  EXPECT_TRUE(world.controller().catalogue().replicas(id_of(7)).empty());  // Its first inventory says so.
}

TEST(ControllerMembersTest, a_silent_member_is_lost_after_its_timeout_and_back_when_it_reports) {
  World world;
  const StreamId stream = world.join("agent-0", Role::kAgent);
  const MemberReport report = world.alive.at("agent-0");
  world.alive.clear();
  world.wait(ms(1999));
  EXPECT_TRUE(world.clusters.at(world.call(ClusterAsked{}))->lost.empty());
  world.wait(ms(1));
  const auto status = world.clusters.at(world.call(ClusterAsked{}));
  EXPECT_EQ(status->members.size(), 1u);
  ASSERT_EQ(status->lost.size(), 1u);
  EXPECT_EQ(status->lost[0].name, "agent-0");
  world.feed(Reported{stream, report});
  EXPECT_TRUE(world.clusters.at(world.call(ClusterAsked{}))->lost.empty());
}

TEST(ControllerMembersTest, a_memory_server_that_joins_without_its_inventory_is_asked_for_it) {
  World world;
  MemberReport report{.name = "memory-0", .role = Role::kMemory, .incarnation = 1, .held = {block(3)}};
  world.stream_of["memory-0"] = 1;
  world.feed(Reported{1, report});
  ASSERT_NE(world.last_told<MemoryDirective>("memory-0"), nullptr);
  EXPECT_TRUE(world.last_told<MemoryDirective>("memory-0")->send_inventory);
}

TEST(ControllerMembersTest, every_member_hears_a_heartbeat_each_second) {
  World world;
  const StreamId stream = world.join("router-0", Role::kRouter);
  const size_t before = world.told[stream].size();
  world.wait(ms(3000));
  EXPECT_GE(world.told[stream].size(), before + 3);
}

TEST(ControllerMembersTest, who_drains_and_leaves_is_no_warning_and_who_falls_silent_is_one) {
  World world;
  const StreamId stream = world.join("router-0", Role::kRouter);
  world.alive.at("router-0").draining = true;
  world.feed(Reported{stream, world.alive.at("router-0")});
  world.die("router-0");
  EXPECT_EQ(world.clusters.at(world.call(ClusterAsked{}))->lost.size(), 1u);
  EXPECT_THAT(world.warnings, testing::IsEmpty());
  world.join("router-1", Role::kRouter);
  world.die("router-1");
  world.wait(ms(2000));
  EXPECT_THAT(world.warnings, testing::ElementsAre(HasSubstr("router-1 closed its connection"), "router router-1 is lost: silent"));
}

TEST(ControllerMembersTest, a_drain_reaches_its_member_and_an_unknown_name_is_answered_with_the_nearest) {
  World world;
  world.join("router-0", Role::kRouter);
  EXPECT_TRUE(world.dones.at(world.call(MemberDrainAsked{.member = "router-0"})).ok());
  EXPECT_NE(world.last_told<DrainMember>("router-0"), nullptr);
  const absl::Status unknown = world.dones.at(world.call(MemberDrainAsked{.member = "roter-0"}));
  EXPECT_EQ(unknown.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("router-0"));
}

// ---- replicas ----------------------------------------------------------------------------------------------------------
TEST(ControllerReplicasTest, an_inventory_tells_the_catalogue_only_what_it_did_not_know) {
  World world;
  world.join("memory-0", Role::kMemory, 1, {1, 2});
  const size_t events = world.stored.size();
  MemberReport report = world.alive.at("memory-0");
  report.inventory = true;
  report.held = {block(1), block(2)};
  world.feed(Reported{world.stream_of.at("memory-0"), report});
  EXPECT_EQ(world.stored.size(), events);
  report.held = {block(2), block(3)};
  world.feed(Reported{world.stream_of.at("memory-0"), report});
  EXPECT_EQ(world.stored.size(), events + 2);
  EXPECT_EQ(world.controller().catalogue().held_by("memory-0").size(), 2u);
}

TEST(ControllerReplicasTest, reports_that_come_while_the_store_is_busy_are_kept_and_their_order_decides) {
  World world;
  world.join("memory-0", Role::kMemory);
  world.hold_appends = true;
  world.said("memory-0", {1});
  world.said("memory-0", {2});
  world.said("memory-0", {}, {2});
  world.said("memory-0", {3});
  ASSERT_EQ(world.held_appends.size(), 1u);
  EXPECT_TRUE(world.controller().catalogue().held_by("memory-0").empty()) << "not applied before the store has it";
  world.hold_appends = false;
  world.feed(Appended{absl::OkStatus()});
  EXPECT_FALSE(world.controller().catalogue().replicas(id_of(1)).empty());
  EXPECT_TRUE(world.controller().catalogue().replicas(id_of(2)).empty());
  EXPECT_FALSE(world.controller().catalogue().replicas(id_of(3)).empty());
}

TEST(ControllerReplicasTest, what_the_store_refused_is_asked_for_again) {
  World world;
  world.join("memory-0", Role::kMemory);
  world.store_status = absl::ResourceExhaustedError("disk full");
  world.said("memory-0", {1});
  EXPECT_TRUE(world.controller().catalogue().held_by("memory-0").empty());
  world.store_status = absl::OkStatus();
  world.wait(ms(1500));
  ASSERT_NE(world.last_told<MemoryDirective>("memory-0"), nullptr);
  EXPECT_TRUE(world.last_told<MemoryDirective>("memory-0")->send_inventory);
}

// ---- deploy ------------------------------------------------------------------------------------------------------------
TEST(ControllerDeployTest, a_deploy_becomes_visible_when_the_servers_hold_every_block) {
  TwoServers world;
  const auto plan = world.begin("bert", {1, 2, 1000});
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->send.size(), 3u);
  EXPECT_EQ(plan->send[0].servers.size(), 2u);
  EXPECT_EQ(plan->servers.size(), 2u);
  const CallId call = world.commit(plan->deploy, record_of(0, "bert", {1, 2}));
  world.said("memory-0", {1, 2});
  EXPECT_FALSE(world.commits.contains(call));
  EXPECT_TRUE(world.controller().catalogue().revisions().empty());
  world.said("memory-1", {1000});
  ASSERT_TRUE(world.commits.contains(call));
  ASSERT_TRUE(world.commits.at(call).ok()) << world.commits.at(call).status();
  EXPECT_EQ(world.commits.at(call)->tag, "latest");
  const auto* assignment = world.last_told<Assignment>("agent-0");
  ASSERT_NE(assignment, nullptr);
  ASSERT_EQ(assignment->revisions.size(), 1u);
  EXPECT_EQ(assignment->prefetch.at("host:0").size(), 1u);
  EXPECT_EQ(assignment->replicas.at(id_of(1)), std::vector<std::string>{"memory-0"});
  ASSERT_EQ(world.last_told<ClusterView>("router-0")->tags.size(), 1u);
}

TEST(ControllerDeployTest, blocks_that_the_pool_has_enough_of_are_not_sent_again) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1, 2})).ok());
  const auto plan = world.begin("other", {1, 2, 3});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->send.size(), 1u);
  EXPECT_EQ(plan->send[0].block, 2u);
}

TEST(ControllerDeployTest, a_name_that_exists_is_refused_unless_it_is_an_update) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  const auto again = world.begin("bert", {2, 1001});
  EXPECT_EQ(again.status().code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("--update"));
  EXPECT_TRUE(world.deploy(record_of(1, "bert", {2}), true).ok());
  EXPECT_EQ(world.controller().catalogue().revisions().size(), 2u);
}

TEST(ControllerDeployTest, deploying_what_is_there_already_says_so) {
  TwoServers world;
  EXPECT_FALSE(world.deploy(record_of(0, "bert", {1}))->already_existed);
  EXPECT_TRUE(world.deploy(record_of(0, "bert", {1}), true)->already_existed);
}

TEST(ControllerDeployTest, a_model_larger_than_the_pool_is_refused_before_anything_is_sent) {
  TwoServers world;
  std::vector<uint32_t> many;
  for (uint32_t n = 0; n < 20'000; ++n) many.push_back(n);
  EXPECT_EQ(world.begin("huge", many).status().code(), StatusCode::kResourceExhausted);
}

TEST(ControllerDeployTest, what_other_deploys_were_promised_is_not_promised_twice) {
  TwoServers world;
  std::vector<uint32_t> most, rest;
  for (uint32_t n = 0; n < 10'000; ++n) most.push_back(n);
  for (uint32_t n = 20'000; n < 30'000; ++n) rest.push_back(n);
  ASSERT_TRUE(world.begin("first", most).ok());
  EXPECT_EQ(world.begin("second", rest).status().code(), StatusCode::kResourceExhausted);
}

TEST(ControllerDeployTest, without_memory_servers_a_deploy_is_refused) {
  World world;
  EXPECT_EQ(world.begin("bert", {1}).status().code(), StatusCode::kUnavailable);
}

TEST(ControllerDeployTest, a_commit_whose_blocks_do_not_come_ends_at_its_deadline_and_may_be_tried_again) {
  TwoServers world;
  const auto plan = world.begin("bert", {1, 1000});
  const CallId call = world.commit(plan->deploy, record_of(0, "bert", {1}));
  world.said("memory-0", {1});
  world.wait(ms(10'000));
  ASSERT_TRUE(world.commits.contains(call));
  EXPECT_EQ(world.commits.at(call).status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(world.commits.at(call).status().message()), HasSubstr(id_of(1000).short_hex()));
  world.said("memory-1", {1000});
  EXPECT_TRUE(world.commits.at(world.commit(plan->deploy, record_of(0, "bert", {1}))).ok());
}

TEST(ControllerDeployTest, a_record_that_does_not_fit_its_deploy_is_refused) {
  TwoServers world;
  const auto plan = world.begin("bert", {1, 1000});
  for (RevisionRecord bad : {record_of(0, "gpt2", {1}), record_of(0, "bert", {1, 2}), record_of(1, "bert", {1})}) {
    EXPECT_EQ(world.commits.at(world.commit(plan->deploy, bad)).status().code(), StatusCode::kInvalidArgument);
  }
  RevisionRecord wrong_sum = record_of(0, "bert", {1});
  wrong_sum.weight_bytes = 1;
  EXPECT_EQ(world.commits.at(world.commit(plan->deploy, wrong_sum)).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(world.commits.at(world.commit(777, record_of(0, "bert", {1}))).status().code(), StatusCode::kNotFound);
}

TEST(ControllerDeployTest, a_record_that_contradicts_the_catalogue_is_refused_before_the_store_sees_it) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  const size_t events = world.stored.size();
  const auto plan = world.begin("other", {1, 2, 1000});
  for (const BlockTargets& send : plan->send) world.said(send.servers.at(0), {2});
  RevisionRecord contradicting = record_of(0, "other", {1, 2});
  EXPECT_EQ(world.commits.at(world.commit(plan->deploy, contradicting)).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(world.stored.size(), events + 1) << "the replica alone";
}

TEST(ControllerReplicasTest, a_server_that_reports_another_size_of_a_block_is_no_replica_of_it) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  world.join("memory-2", Role::kMemory);
  MemberReport report = world.alive.at("memory-2");
  report.held = {{.id = id_of(1), .size_bytes = 512}};
  world.feed(Reported{world.stream_of.at("memory-2"), report});
  EXPECT_EQ(world.controller().catalogue().replicas(id_of(1)).size(), 2u);
}

TEST(ControllerDeployTest, a_store_that_fails_fails_the_commit_and_nothing_is_visible) {
  TwoServers world;
  const auto plan = world.begin("bert", {1, 1000});
  world.said("memory-0", {1, 1000});
  world.store_status = absl::ResourceExhaustedError("disk full");
  EXPECT_EQ(world.commits.at(world.commit(plan->deploy, record_of(0, "bert", {1}))).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.controller().catalogue().revisions().empty());
}

TEST(ControllerDeployTest, a_store_that_cannot_take_replicas_ends_a_commit_at_once_and_what_is_known_goes_on_being_served) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  const auto plan = world.begin("gpt", {2, 1001});
  ASSERT_TRUE(plan.ok());
  world.store_status = absl::ResourceExhaustedError("disk full");
  const size_t warnings = world.warnings.size();
  world.said("memory-0", {2, 1001});
  world.said("memory-1", {2, 1001});
  const auto& failed = world.commits.at(world.commit(plan->deploy, record_of(1, "gpt", {2})));
  EXPECT_EQ(failed.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(world.warnings.size(), warnings + 1) << "said once";
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->memory_servers.size(), 2u);
  world.store_status = absl::OkStatus();
  MemberReport report = world.alive.at("memory-0");
  report.inventory = true;
  report.held = {block(1), block(1000), block(2), block(1001)};
  world.feed(Reported{world.stream_of.at("memory-0"), report});
  EXPECT_TRUE(world.commits.at(world.commit(plan->deploy, record_of(1, "gpt", {2}))).ok());
}

TEST(ControllerDeployTest, the_blocks_of_a_deploy_that_fell_silent_are_dropped_but_not_those_that_others_need) {
  TwoServers world;
  world.wait(ms(60'000));
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  ASSERT_TRUE(world.begin("other", {1, 2, 3}).ok());
  world.said("memory-0", {2, 3});
  const auto held = world.begin("third", {3});
  EXPECT_TRUE(world.last_told<MemoryDirective>("memory-0")->drop.empty());
  for (int i = 0; i < 5; ++i) {
    world.wait(ms(15'000));
    world.feed(RenewAsked{world.next_call++, held->deploy});
  }
  ASSERT_NE(world.last_told<MemoryDirective>("memory-0"), nullptr);
  EXPECT_EQ(world.last_told<MemoryDirective>("memory-0")->drop, std::vector<Digest>{id_of(2)});
}

TEST(ControllerDeployTest, a_deploy_that_needs_a_block_being_dropped_waits_for_the_drop_to_end) {
  TwoServers world;
  world.wait(ms(60'000));
  const auto first = world.begin("bert", {1});
  world.said("memory-0", {1});
  world.feed(AbortAsked{world.next_call++, first->deploy});
  ASSERT_NE(world.last_told<MemoryDirective>("memory-0"), nullptr);
  const CallId call = world.next_call;
  EXPECT_EQ(world.begin("bert", {1}).status().code(), StatusCode::kInternal) << "must not be answered yet";
  world.said("memory-0", {}, {1});
  ASSERT_TRUE(world.plans.contains(call));
  ASSERT_TRUE(world.plans.at(call).ok());
  EXPECT_EQ(world.plans.at(call)->send.at(0).servers.size(), 2u) << "the dropped replica does not count";
}

// ---- names -------------------------------------------------------------------------------------------------------------
TEST(ControllerNamesTest, publish_moves_a_tag_and_rollback_restores_its_previous_target) {
  TwoServers world;
  const RevisionRecord a = record_of(0, "bert", {1}), b = record_of(1, "bert", {2});
  ASSERT_TRUE(world.deploy(a).ok());
  ASSERT_TRUE(world.deploy(b, true).ok());
  const auto back = world.moves.at(world.call(RollbackAsked{.model = "bert"}));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->revision, a.digest);
  EXPECT_EQ(back->previous, b.digest);
  const auto forth = world.moves.at(world.call(PublishAsked{.model = "bert@" + b.digest.hex(), .tag = "stable"}));
  ASSERT_TRUE(forth.ok()) << forth.status();
  EXPECT_EQ(*world.controller().catalogue().resolve("bert:stable"), b.digest);
  EXPECT_EQ(world.moves.at(world.call(RollbackAsked{.model = "brt"})).status().code(), StatusCode::kNotFound);
}

TEST(ControllerNamesTest, remove_drops_only_blocks_that_no_other_revision_needs) {
  TwoServers world;
  world.wait(ms(60'000));
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1, 2})).ok());
  ASSERT_TRUE(world.deploy(record_of(1, "gpt2", {2, 3})).ok());
  const auto removal = world.removals.at(world.call(RemoveAsked{.model = "bert"}));
  ASSERT_TRUE(removal.ok()) << removal.status();
  EXPECT_EQ(removal->revisions.size(), 1u);
  EXPECT_EQ(removal->freed_bytes, 2 * 4096u);
  EXPECT_THAT(world.last_told<MemoryDirective>("memory-0")->drop, testing::UnorderedElementsAre(id_of(1), id_of(1000)));
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->revisions.size(), 1u);
}

TEST(ControllerNamesTest, an_evicted_revision_is_named_once_and_not_prefetched_until_it_is_published_anew) {
  TwoServers world;
  const RevisionRecord a = record_of(0, "bert", {1});
  ASSERT_TRUE(world.deploy(a).ok());
  EXPECT_TRUE(world.dones.at(world.call(EvictAsked{.model = "bert"})).ok());
  const auto* assignment = world.last_told<Assignment>("agent-0");
  EXPECT_EQ(assignment->evict, std::vector<Digest>{a.digest});
  EXPECT_TRUE(assignment->prefetch.at("host:0").empty());
  EXPECT_EQ(assignment->revisions.size(), 1u) << "requests may still bring it";
  const uint64_t version = assignment->version;
  world.wait(ms(5000));
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->version, version);
  ASSERT_TRUE(world.moves.at(world.call(PublishAsked{.model = "bert@" + a.digest.hex()})).ok());
  assignment = world.last_told<Assignment>("agent-0");
  EXPECT_TRUE(assignment->evict.empty());
  EXPECT_EQ(assignment->prefetch.at("host:0").size(), 1u);
}

TEST(ControllerNamesTest, unknown_names_are_answered_with_the_nearest) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "resnet152", {1})).ok());
  for (const absl::Status& status : {world.dones.at(world.call(EvictAsked{.model = "resnet125"})), world.models.at(world.call(ModelsAsked{.model = "resnet125"})).status(),
                                     world.removals.at(world.call(RemoveAsked{.model = "resnet125"})).status()}) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr("resnet152"));
  }
}

TEST(ControllerNamesTest, models_count_live_replicas_and_shared_bytes) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1, 2})).ok());
  ASSERT_TRUE(world.deploy(record_of(1, "gpt2", {2})).ok());
  auto models = world.models.at(world.call(ModelsAsked{}));
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].replicas_min, 2u);
  EXPECT_EQ((*models)[0].shared_bytes, 4096u);
  EXPECT_TRUE((*models)[0].record.blocks.empty());
  ASSERT_EQ((*models)[0].devices, std::vector<std::string>{"agent-0/host:0"});
  world.die("memory-1");
  world.wait(ms(2500));
  models = world.models.at(world.call(ModelsAsked{.model = "bert", .blocks = true}));
  EXPECT_EQ((*models)[0].replicas_min, 1u);
  EXPECT_EQ((*models)[0].record.blocks.size(), 2u);
}

// ---- directives --------------------------------------------------------------------------------------------------------
TEST(ControllerDirectivesTest, versions_rise_only_when_something_changed) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  const uint64_t assignment = world.last_told<Assignment>("agent-0")->version, view = world.last_told<ClusterView>("router-0")->version;
  world.alive.at("agent-0").executors[0].served = 17;
  world.alive.at("memory-0").memory.used_bytes = 4096;
  world.wait(ms(3000));
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->version, assignment);
  EXPECT_EQ(world.last_told<ClusterView>("router-0")->version, view);
  world.alive.at("agent-0").executors[0].incarnation = 10;
  world.wait(ms(250));
  EXPECT_GT(world.last_told<ClusterView>("router-0")->version, view);
}

TEST(ControllerDirectivesTest, a_lost_memory_server_leaves_the_assignment_and_its_replicas_with_it) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->replicas.at(id_of(1)).size(), 2u);
  world.die("memory-0");
  world.wait(ms(2500));
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->replicas.at(id_of(1)), std::vector<std::string>{"memory-1"});
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->memory_servers.size(), 1u);
}

TEST(ControllerDirectivesTest, devices_get_only_the_models_that_settings_name) {
  ControllerOptions options = World::defaults();
  options.agent_devices["agent-0"] = {"host:0", "host:1"};
  options.device_models["agent-0/host:1"] = {"gpt2"};
  TwoServers world(options);
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  const auto* assignment = world.last_told<Assignment>("agent-0");
  EXPECT_EQ(assignment->prefetch.at("host:0").size(), 1u);
  EXPECT_TRUE(assignment->prefetch.at("host:1").empty());

  ExecutorReport other = world.alive.at("agent-0").executors[0];
  other.name = "agent-0/host:1";
  world.alive.at("agent-0").executors.push_back(other);
  world.wait(ms(250));
  const auto devices = [&] { return world.models.at(world.call(ModelsAsked{.model = "bert"}))->at(0).devices; };
  EXPECT_EQ(devices(), std::vector<std::string>{"agent-0/host:0"});
  // It had the model when the settings changed, or under another name.
  world.alive.at("agent-0").executors[1].revisions = {{.revision = id_of(5000), .readiness = Readiness::kMapped}};
  world.wait(ms(250));
  EXPECT_EQ(devices().size(), 2u);
}

TEST(ControllerDirectivesTest, after_a_start_agents_hear_nothing_until_the_expected_members_are_there_or_late) {
  ControllerOptions options = World::defaults();
  options.expected = {"agent-0", "memory-0"};
  World world(options);
  world.join("agent-0", Role::kAgent);
  world.wait(ms(500));
  EXPECT_EQ(world.last_told<Assignment>("agent-0"), nullptr);
  EXPECT_NE(world.last_told<Heartbeat>("agent-0"), nullptr);
  world.join("memory-0", Role::kMemory);
  ASSERT_NE(world.last_told<Assignment>("agent-0"), nullptr);
  EXPECT_EQ(world.last_told<Assignment>("agent-0")->memory_servers.size(), 1u);

  World late(options);
  late.join("agent-0", Role::kAgent);
  late.wait(ms(2000));
  EXPECT_NE(late.last_told<Assignment>("agent-0"), nullptr);
}


}  // namespace
}  // namespace cenote::node
