// Goal: whatever happens, the catalogue is what the store acknowledged, and no call is left without its one answer.
// Method: a RapidCheck walk over deploys, losses, restarts and removals; after each step a replay of the store must equal the catalogue.
#include "controller_world.h"

namespace cenote::node {
namespace {

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
              RC_ASSERT(world.controller().catalogue().references(id) == 0u);
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
      RC_ASSERT(replayed.fingerprint() == world.controller().catalogue().fingerprint());
    }
    world.wait(ms(150'000));
    obey();
    world.wait(ms(1000));
    const size_t answered = world.plans.size() + world.commits.size() + world.moves.size() + world.removals.size() + world.dones.size();
    RC_ASSERT(answered == world.next_call - 1);
    for (const auto& [name, held] : servers) {
      if (!world.alive.contains(name)) continue;
      for (const Digest& id : held) RC_ASSERT(world.controller().catalogue().references(id) > 0u);  // No garbage stays.
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace cenote::node
