// Goal: what lacks replicas gets them, once and in time; what is too many goes, never the last; who serves badly is asked last.
// Method: scripts against the controller, with servers that are told to copy and do it, or not.
#include "node/controller_world.h"

namespace cenote::node {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

uint32_t number_of(const Digest& id) {
  uint32_t n;
  std::memcpy(&n, id.bytes.data(), sizeof n);
  return n;
}

struct Repaired : World {
  explicit Repaired(uint32_t servers = 3, ControllerOptions options = defaults()) : World(std::move(options)) {
    for (uint32_t i = 0; i < servers; ++i) join(name(i), Role::kMemory);
    join("agent-0", Role::kAgent);
    wait(ms(2500));
  }
  static std::string name(uint32_t i) { return "memory-" + std::to_string(i); }
  // What a live server is to copy now.
  std::vector<uint32_t> copies(const std::string& server) {
    const auto* directive = last_told<MemoryDirective>(server);
    std::vector<uint32_t> blocks;
    if (directive != nullptr) {
      for (const CopyOrder& order : directive->copy) blocks.push_back(number_of(order.block.id));
    }
    return blocks;
  }
  // It does so.
  std::vector<uint32_t> obey(const std::string& server) {
    const std::vector<uint32_t> blocks = copies(server);
    if (!blocks.empty()) said(server, blocks);
    return blocks;
  }
  // And drops what it is told to.
  void drop(const std::string& server) {
    std::vector<uint32_t> blocks;
    for (const Digest& id : last_told<MemoryDirective>(server)->drop) blocks.push_back(number_of(id));
    if (!blocks.empty()) said(server, {}, blocks);
  }
  std::set<std::string> holders(uint32_t n) { return controller().catalogue().blocks().at(id_of(n)).servers; }
  std::string other_than(std::set<std::string> servers) {
    for (const auto& [name, report] : alive) {
      if (report.role == Role::kMemory && !servers.contains(name)) return name;
    }
    return "";
  }
  ClusterStatus status() { return *clusters.at(call(ClusterAsked{})); }
};

TEST(ControllerRepairTest, a_lost_servers_blocks_are_copied_after_it_had_time_to_come_back) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  world.wait(ms(1500));
  const std::set<std::string> before = world.holders(1);
  ASSERT_EQ(before.size(), 2u);
  const std::string lost = *before.begin(), left = *before.rbegin(), spare = world.other_than(before);
  world.die(lost);
  world.wait(ms(11'000));
  EXPECT_THAT(world.copies(spare), IsEmpty()) << "it may come back";
  world.wait(ms(2'000));
  ASSERT_THAT(world.copies(spare), testing::Contains(1u));
  EXPECT_EQ(world.last_told<MemoryDirective>(spare)->copy[0].sources, std::vector<std::string>{left});
  EXPECT_EQ(world.last_told<MemoryDirective>(spare)->sources.at(0).name, left);
  EXPECT_GE(world.status().repair.short_blocks, 1u);
  world.obey(spare);
  world.wait(ms(500));
  const RepairStatus status = world.status().repair;
  EXPECT_EQ(status.short_blocks, 0u);
  EXPECT_GE(status.copied_blocks, 1u);
  EXPECT_GT(status.bytes_per_second, 0u);
}

TEST(ControllerRepairTest, a_server_that_comes_back_in_time_costs_nothing_and_one_that_comes_late_gives_up_what_is_too_many) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  const std::set<std::string> before = world.holders(1);
  const std::string lost = *before.begin(), spare = world.other_than(before);
  std::vector<uint32_t> held;
  for (const Digest& id : world.controller().catalogue().held().at(lost)) held.push_back(number_of(id));
  world.die(lost);
  world.wait(ms(8'000));
  world.join(lost, Role::kMemory, 2, held);
  world.wait(ms(30'000));
  EXPECT_THAT(world.copies(spare), IsEmpty());

  world.die(lost);
  world.wait(ms(14'000));
  world.obey(spare);
  world.wait(ms(2'000));
  world.join(lost, Role::kMemory, 3, held);
  world.wait(ms(8'000));
  EXPECT_EQ(world.holders(1).size(), 3u);
  world.wait(ms(8'000));
  size_t told = 0;
  for (const std::string& server : world.holders(1)) {
    const std::vector<Digest>& drop = world.last_told<MemoryDirective>(server)->drop;
    told += std::count(drop.begin(), drop.end(), id_of(1));
  }
  EXPECT_EQ(told, 1u) << "one of them";
  for (uint32_t i = 0; i < 3; ++i) world.drop(Repaired::name(i));
  world.wait(ms(30'000));
  EXPECT_EQ(world.holders(1).size(), 2u);
}

TEST(ControllerRepairTest, a_block_that_a_live_server_dropped_is_copied_at_once) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  world.wait(ms(1500));
  const std::set<std::string> before = world.holders(1);
  world.said(*before.begin(), {}, {1});
  world.wait(ms(250));
  std::vector<uint32_t> all;
  for (uint32_t i = 0; i < 3; ++i) {
    for (const uint32_t n : world.copies(Repaired::name(i))) all.push_back(n);
  }
  EXPECT_THAT(all, ElementsAre(1u));
}

TEST(ControllerRepairTest, a_failed_copy_is_ordered_elsewhere_and_one_that_was_not_heard_of_again) {
  Repaired world(4);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  world.wait(ms(1500));
  world.said(*world.holders(1).begin(), {}, {1});
  world.wait(ms(250));
  std::string target;
  for (uint32_t i = 0; i < 4; ++i) {
    if (!world.copies(Repaired::name(i)).empty()) target = Repaired::name(i);
  }
  ASSERT_FALSE(target.empty());
  // Its stream breaks; what it was told may be lost.
  MemberReport again = world.alive.at(target);
  again.inventory = true;
  for (const Digest& id : world.controller().catalogue().held().contains(target) ? world.controller().catalogue().held().at(target) : std::set<Digest>()) {
    again.held.push_back(block(number_of(id)));
  }
  const StreamId stream = world.next_stream++;
  world.stream_of[target] = stream;
  world.feed(Reported{stream, again});
  world.wait(ms(250));
  EXPECT_THAT(world.copies(target), ElementsAre(1u));

  MemberReport failed = world.alive.at(target);
  failed.copies_failed = {{id_of(1), "no room"}};
  world.feed(Reported{stream, failed});
  world.wait(ms(2'000));
  std::string next;
  for (uint32_t i = 0; i < 4; ++i) {
    if (Repaired::name(i) != target && !world.copies(Repaired::name(i)).empty()) next = Repaired::name(i);
  }
  EXPECT_FALSE(next.empty());
  EXPECT_THAT(world.warnings, testing::Contains(HasSubstr("no room")));
}

TEST(ControllerRepairTest, nobody_copies_what_no_revision_needs_and_an_order_ends_with_its_model) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  world.wait(ms(1500));
  const std::set<std::string> before = world.holders(1);
  world.said(*before.begin(), {}, {1});
  world.wait(ms(250));
  EXPECT_EQ(world.status().repair.copying, 1u);
  world.call(RemoveAsked{0, "bert", ""});
  world.wait(ms(250));
  EXPECT_EQ(world.status().repair, (RepairStatus{}));
  for (uint32_t i = 0; i < 3; ++i) EXPECT_THAT(world.copies(Repaired::name(i)), IsEmpty());
}

TEST(ControllerRepairTest, a_new_server_gets_what_there_was_no_room_for_before) {
  Repaired world(1);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1, 2})).ok());
  world.wait(ms(3'000));
  EXPECT_EQ(world.status().repair.short_blocks, 0u) << "one server, one replica";
  world.join("memory-7", Role::kMemory);
  world.wait(ms(1'500));
  EXPECT_THAT(world.copies("memory-7"), UnorderedElementsAre(1u, 2u, 1001u));
}

TEST(ControllerRepairTest, a_block_that_nobody_has_is_counted_as_lost) {
  Repaired world(2);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  for (const std::string server : {"memory-0", "memory-1"}) world.said(server, {}, {1});
  world.wait(ms(2'000));
  EXPECT_EQ(world.status().repair.lost_blocks, 1u);
  EXPECT_EQ(world.status().repair.copying, 0u);
}

TEST(ControllerRepairTest, a_server_that_drains_leaves_when_others_hold_its_blocks) {
  ControllerOptions options = World::defaults();
  options.replicas = 1;
  Repaired world(2, options);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1, 2, 3})).ok());
  world.wait(ms(1500));
  const auto drained = [&] { return world.last_told<DrainMember>("memory-0") != nullptr; };
  const std::set<Digest> held = world.controller().catalogue().held().at("memory-0");
  ASSERT_FALSE(held.empty());
  world.call(MemberDrainAsked{0, "memory-0"});
  world.wait(ms(1'000));
  EXPECT_EQ(world.copies("memory-1").size(), held.size());
  EXPECT_FALSE(drained());
  world.obey("memory-1");
  world.wait(ms(500));
  EXPECT_TRUE(drained());
}

TEST(ControllerRepairTest, a_server_that_drains_stays_while_who_took_its_blocks_is_away) {
  ControllerOptions options = World::defaults();
  options.replicas = 1;
  Repaired world(3, options);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})).ok());
  world.wait(ms(1500));
  const std::string from = Repaired::name(0), first = Repaired::name(1), second = Repaired::name(2);
  world.call(MemberDrainAsked{0, from});
  world.wait(ms(100));
  ASSERT_FALSE(world.obey(first).empty());
  world.die(first);
  ASSERT_FALSE(world.obey(second).empty());
  world.wait(ms(4'000));
  EXPECT_EQ(world.last_told<DrainMember>(from), nullptr) << "some of its blocks are nowhere else just now";
}

TEST(ControllerRepairTest, no_replica_goes_while_a_holder_looks_at_its_own) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  world.wait(ms(1500));
  const std::string third = world.other_than(world.holders(1)), doubted = *world.holders(1).begin();
  world.said(third, {1});
  world.wait(ms(5'000));
  ASSERT_EQ(world.holders(1).size(), 3u);
  MemberReport report = world.alive.at("agent-0");
  report.doubtful = {{.server = doubted, .block = id_of(1)}};
  world.feed(Reported{world.stream_of.at("agent-0"), report});
  world.wait(ms(20'000));
  for (uint32_t i = 0; i < 3; ++i) {
    const auto* told = world.last_told<MemoryDirective>(Repaired::name(i));
    EXPECT_EQ(std::count(told->drop.begin(), told->drop.end(), id_of(1)), 0);
  }
  world.said(doubted, {}, {1});  // It was bad.
  world.wait(ms(20'000));
  EXPECT_EQ(world.holders(1).size(), 2u);
}

TEST(ControllerRepairTest, a_server_whose_blocks_nobody_takes_leaves_all_the_same_in_the_end) {
  ControllerOptions options = World::defaults();
  options.replicas = 1;
  Repaired world(2, options);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1, 2, 3})).ok());
  world.wait(ms(1500));
  world.call(MemberDrainAsked{0, "memory-0"});
  world.wait(ms(40'000));
  EXPECT_EQ(world.last_told<DrainMember>("memory-0"), nullptr);
  world.wait(ms(40'000));
  EXPECT_NE(world.last_told<DrainMember>("memory-0"), nullptr);
  EXPECT_THAT(world.warnings, testing::Contains(HasSubstr("no other server has taken")));
}

TEST(ControllerRepairTest, many_blocks_are_repaired_within_limits_and_without_a_long_step) {
  Repaired world;
  std::vector<uint32_t> weights;
  for (uint32_t n = 10'000; n < 22'000; ++n) weights.push_back(n);
  ASSERT_TRUE(world.deploy(record_of(1, "bert", weights)).ok());
  world.wait(ms(1500));
  const std::string lost = *world.holders(10'000).begin();
  world.die(lost);
  world.wait(ms(13'000));
  size_t rounds = 0, copied = 0;
  while (world.status().repair.short_blocks > 0 && ++rounds < 200) {
    for (const auto& [name, report] : std::map(world.alive)) {
      if (report.role != Role::kMemory) continue;
      const size_t size = world.copies(name).size();
      EXPECT_LE(size, 64u);
      copied += world.obey(name).size();
    }
    world.wait(ms(50));
  }
  EXPECT_LT(rounds, 200u);
  for (const uint32_t n : {10'000u, 16'000u, 21'999u}) {
    std::set<std::string> holders = world.holders(n);
    holders.erase(lost);
    EXPECT_EQ(holders.size(), 2u);
  }
  EXPECT_LT(copied, 24'000u) << "what is ordered is not ordered again and again";
}

TEST(ControllerRepairTest, wrong_bytes_make_their_server_look_once) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  const std::string server = *world.holders(1).begin();
  MemberReport report = world.alive.at("agent-0");
  report.doubtful = {{server, id_of(1)}, {server, id_of(77)}, {"memory-9", id_of(1)}};
  world.feed(Reported{world.stream_of.at("agent-0"), report});
  EXPECT_THAT(world.last_told<MemoryDirective>(server)->check, ElementsAre(id_of(1)));
  MemberReport checked = world.alive.at(server);
  checked.checked = {id_of(1)};
  world.feed(Reported{world.stream_of.at(server), checked});
  world.said(server, {3});
  world.wait(ms(1'500));
  EXPECT_THAT(world.last_told<MemoryDirective>(server)->check, IsEmpty());
}

TEST(ControllerRepairTest, a_flapping_server_is_asked_last_gets_nothing_new_and_is_taken_back) {
  Repaired world;
  ASSERT_TRUE(world.deploy(record_of(1, "bert", {1})).ok());
  const std::string bad = *world.holders(1).begin();
  std::vector<uint32_t> held;
  for (const Digest& id : world.controller().catalogue().held().at(bad)) held.push_back(number_of(id));
  for (Incarnation again = 2; again <= 4; ++again) {
    world.die(bad);
    world.wait(ms(500));
    world.join(bad, Role::kMemory, again, held);
    world.wait(ms(500));
  }
  world.wait(ms(1'500));
  ASSERT_EQ(world.status().excluded.size(), 1u);
  EXPECT_EQ(world.status().excluded[0].server, bad);
  EXPECT_THAT(world.status().excluded[0].reason, HasSubstr("flapping: it came back 3 times"));
  EXPECT_THAT(world.last_told<Suspects>("agent-0")->names, ElementsAre(bad));
  const auto plan = world.begin("other", {50});
  ASSERT_TRUE(plan.ok());
  for (const BlockTargets& send : plan->send) EXPECT_THAT(send.servers, testing::Not(testing::Contains(bad)));
  EXPECT_THAT(world.copies(world.other_than(world.holders(1))), testing::Contains(1u)) << "its blocks get replicas elsewhere";
  world.wait(ms(65'000));
  EXPECT_THAT(world.status().excluded, IsEmpty());
  EXPECT_THAT(world.last_told<Suspects>("agent-0")->names, IsEmpty());
}

TEST(ControllerRepairTest, a_server_that_agents_read_slowly_is_asked_last) {
  Repaired world;
  MemberReport& report = world.alive.at("agent-0");
  for (int i = 0; i < 40; ++i) {
    report.seen.clear();
    for (uint32_t n = 0; n < 3; ++n) {
      report.seen.push_back({.server = Repaired::name(n), .reads = uint64_t(i) * 4, .bytes = uint64_t(i) * 4 * kMiB, .read_time = ms(n == 1 ? i * 4 * 400 : i * 4 * 2)});
    }
    world.wait(ms(250));
  }
  world.wait(ms(1'000));
  ASSERT_EQ(world.status().excluded.size(), 1u);
  EXPECT_EQ(world.status().excluded[0].server, "memory-1");
  EXPECT_THAT(world.status().excluded[0].reason, HasSubstr("slow"));
}

}  // namespace
}  // namespace cenote::node
