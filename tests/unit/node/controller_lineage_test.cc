// Goal: a catalogue that was lost, or an older one put back, has nothing dropped from memory servers before an operator decided, and what
// the pool holds can be adopted. Method: the scripted members of controller_world.h.
#include "catalog/label.h"
#include "controller_world.h"

namespace cenote::node {
namespace {

constexpr uint64_t kOther = 4711;

bool told_to_drop(const World& world, const std::string& server) {
  const auto told = world.told.find(world.stream_of.at(server));
  if (told == world.told.end()) return false;
  for (const Directive& directive : told->second) {
    if (const auto* memory = std::get_if<MemoryDirective>(&directive); memory != nullptr && !memory->drop.empty()) return true;
  }
  return false;
}

uint64_t lineage_told(const World& world, const std::string& server) {
  const MemoryDirective* told = world.last_told<MemoryDirective>(server);
  return told == nullptr ? 0 : told->lineage;
}

TEST(ControllerLineageTest, an_empty_catalogue_drops_nothing_that_came_under_another) {
  World world;
  world.lineage = kOther;
  world.join("memory-0", Role::kMemory, 1, {1, 2, 3});
  world.wait(ms(120'000));
  EXPECT_FALSE(told_to_drop(world, "memory-0"));
  EXPECT_GT(world.controller().next_deadline(), world.now) << "it waits without spinning";
  EXPECT_THAT(world.controller().catalogue().held_because(), HasSubstr("memory-0 holds blocks that came under another catalogue"));
  ASSERT_FALSE(world.warnings.empty());
  EXPECT_THAT(world.warnings.front(), HasSubstr("cenote rebuild"));
  ASSERT_TRUE(world.dones.at(world.call(HoldDropsAsked{.hold = false})).ok());
  world.wait(ms(1'000));
  EXPECT_TRUE(told_to_drop(world, "memory-0"));
}

TEST(ControllerLineageTest, a_catalogue_begins_by_itself_and_tries_again_after_a_full_disk) {
  World world;
  world.store_status = absl::ResourceExhaustedError("disk full");
  EXPECT_LE(world.controller().next_deadline(), world.now);
  world.step();
  EXPECT_EQ(world.controller().catalogue().lineage(), 0u);
  EXPECT_GT(world.controller().next_deadline(), world.now);
  world.store_status = absl::OkStatus();
  world.wait(ms(1'500));
  EXPECT_NE(world.controller().catalogue().lineage(), 0u);
}

TEST(ControllerLineageTest, a_server_that_forgot_which_catalogue_its_blocks_came_under_is_not_trusted) {
  World world;
  world.lineage = 0;
  world.join("memory-0", Role::kMemory, 1, {1});
  EXPECT_FALSE(world.controller().catalogue().held_because().empty());
}

TEST(ControllerLineageTest, a_new_server_and_one_that_holds_only_what_is_needed_hold_nothing_up) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  world.lineage = 0;
  world.join("memory-2", Role::kMemory);
  world.lineage = kOther;
  world.join("memory-3", Role::kMemory, 1, {1, 1000});
  EXPECT_EQ(world.controller().catalogue().held_because(), "");
  EXPECT_EQ(lineage_told(world, "memory-2"), world.controller().catalogue().lineage());
  EXPECT_EQ(lineage_told(world, "memory-3"), world.controller().catalogue().lineage());
}

TEST(ControllerLineageTest, an_older_catalogue_put_back_is_seen_by_what_its_servers_were_told) {
  World world;
  MemberReport report{.name = "memory-0", .role = Role::kMemory, .incarnation = 1, .address = "memory-0:1"};
  world.step();
  const uint64_t before = world.controller().catalogue().lineage();
  report.inventory = true;
  report.lineage = before;
  report.lineage_sequence = 100;
  world.feed(Reported{1, report});
  EXPECT_THAT(world.controller().catalogue().held_because(), HasSubstr("an older one put back: it has 1 events, memory-0 was told of 100"));
}

TEST(ControllerLineageTest, a_server_hears_of_this_catalogue_only_once_the_hold_is_stored) {
  World world;
  world.step();
  world.store_status = absl::ResourceExhaustedError("disk full");
  world.lineage = kOther;
  world.join("memory-0", Role::kMemory, 1, {1, 2});
  world.wait(ms(5'000));
  EXPECT_EQ(lineage_told(world, "memory-0"), 0u);
  world.store_status = absl::OkStatus();
  world.alive.at("memory-0").held = {block(1), block(2)};
  world.alive.at("memory-0").inventory = true;
  world.wait(ms(2'000));
  EXPECT_FALSE(world.controller().catalogue().held_because().empty());
  EXPECT_EQ(lineage_told(world, "memory-0"), world.controller().catalogue().lineage());
}

TEST(ControllerLineageTest, a_server_gets_blocks_only_once_it_has_said_that_it_knows_this_catalogue) {
  World world;
  world.lineage = 0;
  world.join("memory-0", Role::kMemory);
  EXPECT_FALSE(world.begin("bert", {1}).ok());
  world.alive.at("memory-0").lineage = lineage_told(world, "memory-0");
  world.alive.at("memory-0").inventory = false;
  world.wait(ms(500));
  EXPECT_TRUE(world.begin("bert", {1}).ok());
}

TEST(ControllerLineageTest, servers_hear_how_far_the_catalogue_has_come) {
  TwoServers world;
  ASSERT_TRUE(world.deploy(record_of(0, "bert", {1})).ok());
  world.wait(ms(2'000));
  EXPECT_EQ(world.last_told<MemoryDirective>("memory-0")->lineage_sequence, world.stored.size());
}

RevisionRecord labelled(uint32_t number, int64_t created_us) {
  RevisionRecord record = record_of(number, "bert", {number});
  record.label = {id_of(2000 + number), kLabelBytes};
  record.created_us = created_us;
  return record;
}

// What a server holds of labelled(number).
void hold(World& world, const std::string& server, std::vector<uint32_t> numbers) {
  MemberReport report = world.alive.at(server);
  for (const uint32_t n : numbers) {
    for (const BlockRef& b : distinct_blocks(labelled(n, 1))) report.held.push_back(b);
  }
  report.inventory = true;
  world.feed(Reported{world.stream_of.at(server), report});
}

TEST(ControllerLineageTest, revisions_are_adopted_and_the_newest_of_a_name_becomes_latest) {
  ControllerOptions options = World::defaults();
  options.expected = {"memory-0", "memory-1"};
  World world(options);
  world.join("memory-0", Role::kMemory);
  hold(world, "memory-0", {1, 2, 3});
  world.wait(ms(3'000));
  const CallId early = world.call(AdoptAsked{.record = labelled(1, 1)});
  EXPECT_EQ(world.commits.at(early).status().code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(world.dones.at(world.call(HoldDropsAsked{.hold = true})).ok());
  const Unclaimed found = *world.unclaimed.at(world.call(UnclaimedAsked{}));
  EXPECT_EQ(found.labels.size(), 3u);
  EXPECT_EQ(found.absent, std::vector<std::string>{"memory-1"});
  for (const auto& [number, created] : std::vector<std::pair<uint32_t, int64_t>>{{2, 20}, {3, 30}, {1, 10}}) {
    const CallId adopted = world.call(AdoptAsked{.record = labelled(number, created)});
    ASSERT_TRUE(world.commits.at(adopted).ok()) << world.commits.at(adopted).status();
    EXPECT_EQ(world.commits.at(adopted)->tag.empty(), number == 1);
  }
  EXPECT_EQ(world.controller().catalogue().tag("bert", "latest")->revision, id_of(5003));
  EXPECT_TRUE(world.unclaimed.at(world.call(UnclaimedAsked{}))->labels.empty());
  const CallId incomplete = world.call(AdoptAsked{.record = labelled(4, 40)});
  EXPECT_EQ(world.commits.at(incomplete).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace cenote::node
