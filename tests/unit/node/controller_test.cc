// Goal: the catalogue is what the store acknowledged; members come, go and are told what holds; a deploy is visible whole or not at all;
// no block that a revision or a deploy needs is dropped.
// Method: scripted events with a world of memory servers that obey directives; a RapidCheck walk checks that a replay of the store
// equals the catalogue and that every call is answered once.
#include "node/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/text.h"
#include "base/units.h"

namespace cenote::node {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

Digest id_of(uint32_t n) {
  Digest id;
  std::memcpy(id.bytes.data(), &n, sizeof n);
  id.bytes[31] = 1;
  return id;
}
Duration ms(int64_t n) { return Duration::from_ms(n); }
BlockRef block(uint32_t n) { return {.id = id_of(n), .size_bytes = 4096}; }

// A revision of weight blocks `weights` and manifest block 1000 + number.
RevisionRecord record_of(uint32_t number, const std::string& name, std::vector<uint32_t> weights) {
  RevisionRecord record{.digest = id_of(5000 + number), .name = name, .manifest_bytes = 4096, .manifest_blocks = {block(1000 + number)}, .created_us = 1};
  for (const uint32_t weight : weights) record.blocks.push_back(block(weight));
  record.weight_bytes = 4096 * weights.size();
  return record;
}

class World {
 public:
  explicit World(ControllerOptions options = defaults()) : controller(options, Catalogue(), Instant{}) {}

  static ControllerOptions defaults() {
    return {.cluster = "test", .member_timeout = ms(2000), .deploy_lease = ms(60'000), .replicas = 2, .expected = {}, .first_version = 100};
  }

  void feed(ControllerEvent event) {
    std::vector<ControllerEvent> events{std::move(event)};
    while (true) {
      std::vector<ControllerAction> actions;
      controller.step(now, events, actions);
      events.clear();
      for (const ControllerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
      if (events.empty()) return;
    }
  }
  void step() {
    std::vector<ControllerAction> actions;
    controller.step(now, {}, actions);
    std::vector<ControllerEvent> events;
    for (const ControllerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
    for (ControllerEvent& event : events) feed(std::move(event));
  }
  // Time passes; whoever is alive beats its heart.
  void wait(Duration duration) {
    for (const Instant end = now + duration; now < end;) {
      now = std::min(end, now + ms(250));
      for (const auto& [name, report] : alive) feed(Reported{stream_of.at(name), report});
      step();
    }
  }

  StreamId join(const std::string& name, Role role, Incarnation incarnation = 1, std::vector<uint32_t> held = {}) {
    MemberReport report{.name = name, .role = role, .incarnation = incarnation, .address = name + ":1"};
    if (role == Role::kMemory) report.memory = {.name = name, .control_address = name + ":1", .incarnation = incarnation, .capacity_bytes = 64 * kMiB};
    if (role == Role::kAgent) report.executors = {{.name = name + "/host:0", .device = "host:0", .address = name + ":2", .incarnation = 9, .credits = 4}};
    const StreamId stream = next_stream++;
    alive[name] = report;
    stream_of[name] = stream;
    report.inventory = role == Role::kMemory;
    for (const uint32_t n : held) report.held.push_back(block(n));
    feed(Reported{stream, report});
    return stream;
  }
  void die(const std::string& name) {
    alive.erase(name);
    feed(StreamEnded{stream_of.at(name)});
  }
  // The server says that it holds, or dropped, these.
  void said(const std::string& server, std::vector<uint32_t> held, std::vector<uint32_t> dropped = {}) {
    MemberReport report = alive.at(server);
    for (const uint32_t n : held) report.held.push_back(block(n));
    for (const uint32_t n : dropped) report.dropped.push_back(id_of(n));
    feed(Reported{stream_of.at(server), report});
  }

  absl::StatusOr<DeployPlan> begin(const std::string& name, std::vector<uint32_t> blocks, bool update = false) {
    DeployRequest request{.name = name, .update = update, .client = "test"};
    for (const uint32_t n : blocks) request.blocks.push_back(block(n));
    const CallId call = next_call++;
    feed(BeginAsked{call, request, now + ms(10'000)});
    return plans.contains(call) ? plans.at(call) : absl::StatusOr<DeployPlan>(absl::InternalError("not answered yet"));
  }
  CallId commit(uint64_t deploy, const RevisionRecord& record) {
    const CallId call = next_call++;
    feed(CommitAsked{call, deploy, record, now + ms(10'000)});
    return call;
  }
  // The whole deploy, its blocks written to every server that was named.
  absl::StatusOr<DeployResult> deploy(const RevisionRecord& record, bool update = false) {
    std::vector<uint32_t> numbers;
    for (const BlockRef& b : distinct_blocks(record)) {
      uint32_t n;
      std::memcpy(&n, b.id.bytes.data(), sizeof n);
      numbers.push_back(n);
    }
    const auto plan = begin(record.name, numbers, update);
    if (!plan.ok()) return plan.status();
    for (const BlockTargets& send : plan->send) {
      for (const std::string& server : send.servers) said(server, {numbers[send.block]});
    }
    return commits.at(commit(plan->deploy, record));
  }
  template <typename Event>
  CallId call(Event event) {
    event.call = next_call++;
    const CallId call = event.call;
    feed(std::move(event));
    return call;
  }
  template <typename T>
  const T* last_told(const std::string& member) const {
    const auto found = told.find(stream_of.at(member));
    if (found == told.end()) return nullptr;
    for (auto directive = found->second.rbegin(); directive != found->second.rend(); ++directive) {
      if (const T* wanted = std::get_if<T>(&*directive)) return wanted;
    }
    return nullptr;
  }

  Controller controller;
  Instant now;
  StreamId next_stream = 1;
  CallId next_call = 1;
  std::map<std::string, MemberReport> alive;
  std::map<std::string, StreamId> stream_of;
  std::map<StreamId, std::vector<Directive>> told;
  std::map<StreamId, absl::Status> refusals;
  std::vector<CatalogueEvent> stored;
  absl::Status store_status;
  bool hold_appends = false;
  std::vector<AppendEvents> held_appends;
  std::map<CallId, absl::StatusOr<DeployPlan>> plans;
  std::map<CallId, absl::StatusOr<DeployResult>> commits;
  std::map<CallId, absl::StatusOr<TagMove>> moves;
  std::map<CallId, absl::StatusOr<Removal>> removals;
  std::map<CallId, absl::StatusOr<std::vector<ModelInfo>>> models;
  std::map<CallId, absl::StatusOr<ClusterStatus>> clusters;
  std::map<CallId, absl::Status> dones;

 private:
  using Feed = std::vector<ControllerEvent>;
  void perform(const AppendEvents& a, Feed& events) {
    if (hold_appends) return held_appends.push_back(a);
    if (store_status.ok()) stored.insert(stored.end(), a.events.begin(), a.events.end());
    events.push_back(Appended{store_status});
  }
  void perform(const SendDirective& a, Feed&) { told[a.stream].push_back(a.directive); }
  void perform(const RefuseStream& a, Feed&) { refusals.emplace(a.stream, a.status); }
  void perform(const Say&, Feed&) {}
  void perform(const PlanReply& a, Feed&) { EXPECT_TRUE(plans.emplace(a.call, a.result).second); }
  void perform(const CommitReply& a, Feed&) { EXPECT_TRUE(commits.emplace(a.call, a.result).second); }
  void perform(const TagMoveReply& a, Feed&) { EXPECT_TRUE(moves.emplace(a.call, a.result).second); }
  void perform(const RemovalReply& a, Feed&) { EXPECT_TRUE(removals.emplace(a.call, a.result).second); }
  void perform(const ModelsReply& a, Feed&) { EXPECT_TRUE(models.emplace(a.call, a.result).second); }
  void perform(const ClusterReply& a, Feed&) { EXPECT_TRUE(clusters.emplace(a.call, a.result).second); }
  void perform(const DoneReply& a, Feed&) { EXPECT_TRUE(dones.emplace(a.call, a.result).second); }
};

struct TwoServers : World {
  explicit TwoServers(ControllerOptions options = defaults()) : World(std::move(options)) {
    join("memory-0", Role::kMemory);
    join("memory-1", Role::kMemory);
    join("agent-0", Role::kAgent);
    join("router-0", Role::kRouter);
  }
};

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
  EXPECT_EQ(world.controller.catalogue().replicas(id_of(7)).size(), 1u);
  world.die("memory-0");
  const StreamId second = world.join("memory-0", Role::kMemory, 2);
  EXPECT_FALSE(world.refusals.contains(second));
  EXPECT_TRUE(world.controller.catalogue().replicas(id_of(7)).empty());  // Its first inventory says so.
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
  EXPECT_EQ(world.controller.catalogue().held_by("memory-0").size(), 2u);
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
  EXPECT_TRUE(world.controller.catalogue().held_by("memory-0").empty()) << "not applied before the store has it";
  world.hold_appends = false;
  world.feed(Appended{absl::OkStatus()});
  EXPECT_FALSE(world.controller.catalogue().replicas(id_of(1)).empty());
  EXPECT_TRUE(world.controller.catalogue().replicas(id_of(2)).empty());
  EXPECT_FALSE(world.controller.catalogue().replicas(id_of(3)).empty());
}

TEST(ControllerReplicasTest, what_the_store_refused_is_asked_for_again) {
  World world;
  world.join("memory-0", Role::kMemory);
  world.store_status = absl::ResourceExhaustedError("disk full");
  world.said("memory-0", {1});
  EXPECT_TRUE(world.controller.catalogue().held_by("memory-0").empty());
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
  EXPECT_TRUE(world.controller.catalogue().revisions().empty());
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
  EXPECT_EQ(world.controller.catalogue().revisions().size(), 2u);
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
  EXPECT_EQ(world.begin("bert", {1}).status().code(), StatusCode::kFailedPrecondition);
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
  EXPECT_EQ(world.controller.catalogue().replicas(id_of(1)).size(), 2u);
}

TEST(ControllerDeployTest, a_store_that_fails_fails_the_commit_and_nothing_is_visible) {
  TwoServers world;
  const auto plan = world.begin("bert", {1, 1000});
  world.said("memory-0", {1, 1000});
  world.store_status = absl::ResourceExhaustedError("disk full");
  EXPECT_EQ(world.commits.at(world.commit(plan->deploy, record_of(0, "bert", {1}))).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.controller.catalogue().revisions().empty());
}

TEST(ControllerDeployTest, the_blocks_of_a_deploy_that_fell_silent_are_dropped_but_not_those_that_others_need) {
  TwoServers world;
  world.wait(ms(60'000));
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  ASSERT_TRUE(world.begin("other", {1, 2, 3}).ok());
  world.said("memory-0", {2, 3});
  const auto held = world.begin("third", {3});
  EXPECT_EQ(world.last_told<MemoryDirective>("memory-0"), nullptr);
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
  EXPECT_EQ(*world.controller.catalogue().resolve("bert:stable"), b.digest);
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

// ---- properties --------------------------------------------------------------------------------------------------------
TEST(ControllerProperty, whatever_happens_a_replay_of_the_store_equals_the_catalogue_and_needed_blocks_are_not_dropped) {
  const bool holds = rc::check([](const std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>& steps) {
    TwoServers world;
    world.wait(ms(60'000));
    Incarnation next_incarnation = 2;
    std::map<std::string, std::set<Digest>> servers{{"memory-0", {}}, {"memory-1", {}}};
    std::map<std::string, size_t> heard;
    // Servers do as they were told, and say so.
    const auto obey = [&] {
      for (auto& [name, held] : servers) {
        if (!world.alive.contains(name)) continue;
        auto& told = world.told[world.stream_of.at(name)];
        MemberReport report = world.alive.at(name);
        for (size_t& i = heard[str_cat(name, world.stream_of.at(name))]; i < told.size(); ++i) {
          if (const auto* directive = std::get_if<MemoryDirective>(&told[i])) {
            for (const Digest& id : directive->drop) {
              RC_ASSERT(world.controller.catalogue().references(id) == 0u);
              held.erase(id);
              report.dropped.push_back(id);
            }
          }
        }
        if (!report.dropped.empty()) world.feed(Reported{world.stream_of.at(name), report});
      }
    };
    for (const auto& [kind, a, b] : steps) {
      const std::string server = a % 2 == 0 ? "memory-0" : "memory-1";
      switch (kind % 8) {
        case 0:
        case 1:
        case 2: {
          const RevisionRecord record = record_of(a % 6, str_cat("model-", b % 3), {a % 6u, a % 6u + 1, (a % 6u + 3) % 5});
          const auto plan = world.begin(record.name, [&] {
            std::vector<uint32_t> numbers;
            for (const BlockRef& block : distinct_blocks(record)) {
              uint32_t n;
              std::memcpy(&n, block.id.bytes.data(), sizeof n);
              numbers.push_back(n);
            }
            return numbers;
          }(), b % 2 == 0);
          if (!plan.ok()) break;
          const auto blocks = distinct_blocks(record);
          for (const BlockTargets& send : plan->send) {
            for (const std::string& target : send.servers) {
              servers[target].insert(blocks[send.block].id);
              MemberReport report = world.alive.at(target);
              report.held = {blocks[send.block]};
              world.feed(Reported{world.stream_of.at(target), report});
            }
          }
          if (kind % 8 != 2) (void)world.commit(plan->deploy, record);
          break;
        }
        case 3: world.call(RemoveAsked{.model = str_cat("model-", b % 3)}); break;
        case 4: world.call(RollbackAsked{.model = str_cat("model-", b % 3)}); break;
        case 5: world.call(EvictAsked{.model = str_cat("model-", b % 3)}); break;
        case 6:
          if (world.alive.contains(server)) {
            world.die(server);
            servers[server].clear();
          } else {
            world.join(server, Role::kMemory, next_incarnation++);
          }
          break;
        case 7: world.wait(ms(b * 20)); break;
      }
      obey();
      Catalogue replayed;
      for (const CatalogueEvent& event : world.stored) RC_ASSERT(replayed.apply(event).ok());
      RC_ASSERT(replayed.fingerprint() == world.controller.catalogue().fingerprint());
    }
    world.wait(ms(150'000));
    obey();
    world.wait(ms(1000));
    const size_t answered = world.plans.size() + world.commits.size() + world.moves.size() + world.removals.size() + world.dones.size();
    RC_ASSERT(answered == world.next_call - 1);
    for (const auto& [name, held] : servers) {
      if (!world.alive.contains(name)) continue;
      for (const Digest& id : held) RC_ASSERT(world.controller.catalogue().references(id) > 0u);  // No garbage stays.
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::node
