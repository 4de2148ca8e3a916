#include "simulate/run.h"

#include <functional>

#include "simulate/cluster.h"
#include "simulate/faults.h"
#include "simulate/workload.h"

namespace cenote::simulate {
namespace {

constexpr Duration kSettle = Duration::from_seconds(22);   // Longest back-off, keepalive, leases and deadlines, one after the other.
constexpr Duration kRepair = Duration::from_seconds(20);   // With what went before: the last one excluded is taken back, its replicas too many go.
constexpr Duration kQuiet = Workload::kProbeFor + Workload::kProbeDeadline + Duration::from_seconds(1);
constexpr Duration kEmpty = Duration::from_seconds(20);    // Grants and leases end.

// `action` again and again until `end`, on average `mean` apart.
void repeat(World& world, Instant end, Duration mean, const std::function<void()>& action) {
  world.after(world.draw(Duration{}, mean * 2), [&world, end, mean, action] {
    if (world.now() >= end) return;
    action();
    repeat(world, end, mean, action);
  });
}

}  // namespace

RunResult run_seed(uint64_t seed, bool tracing) {
  World world(seed, tracing);
  Cluster cluster(world);
  Workload workload(cluster, world);
  Faults faults(cluster, world);
  const auto pass = [&](Duration time) { world.run_until(world.now() + time); };

  const Instant end = world.now() + world.draw(Duration::from_seconds(6), Duration::from_seconds(30));
  world.after(world.draw(Duration{}, Duration::from_seconds(2)), [&] { workload.first_deploys(); });
  repeat(world, end, world.draw(Duration::from_ms(300), Duration::from_ms(5'000)), [&] { workload.manage(); });
  repeat(world, end, world.draw(Duration::from_ms(15), Duration::from_ms(400)), [&] { workload.call(end + kSettle); });
  // A tenth of the runs sees no fault; others few or many.
  if (!world.chance(10)) repeat(world, end, world.draw(Duration::from_ms(300), Duration::from_ms(5'000)), [&] { faults.strike(); });
  world.run_until(end);

  faults.heal_all();
  cluster.note_peace();
  pass(kSettle);
  for (int i = 0; i < 10 && !workload.idle() && !world.failed(); ++i) pass(Duration::from_seconds(5));
  if (!workload.idle()) world.fail("people still wait for their answers");
  pass(kSettle);
  cluster.check_members();
  cluster.check_acknowledged();
  cluster.check_nothing_lost();
  pass(kRepair);
  cluster.check_replicas();
  if (!world.failed()) workload.probe();
  pass(kQuiet);
  if (!world.failed()) cluster.check_no_leaks();
  if (!world.failed() && world.chance(50)) {
    workload.remove_all();
    pass(kEmpty);
    if (!world.failed()) cluster.check_empty();
  }

  RunResult result{.failure = world.failure(), .hash = world.hash(), .actions = world.actions_run(), .faults = faults.count()};
  for (const auto& [id, request] : cluster.truth().requests()) {
    ++result.requests;
    if (request.outcomes > 0 && request.status.ok()) ++result.succeeded;
  }
  result.events = cluster.truth().disk.durable.applied();
  return result;
}

}  // namespace cenote::simulate
