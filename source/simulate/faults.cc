#include "simulate/faults.h"

namespace cenote::simulate {

void Faults::strike() {
  if (over_) return;
  ++count_;
  switch (world_.draw(14)) {
    case 0: case 1: case 2: return kill();
    case 3: case 4: return stop();
    case 5: case 6: return cut();
    case 7: return slow();
    case 8: return corrupt_wire();
    case 9: return world_.chance(30) ? corrupt_arena() : kill();
    case 10: return fill_disk();
    case 11: case 12: return reset();
    default: return slow_disk();
  }
}

void Faults::for_a_while(Duration at_most, std::function<void()> end) {
  world_.after(world_.draw(Duration::from_ms(20), at_most), [this, end = std::move(end)] {
    if (!over_) end();
  });
}

void Faults::kill() { cluster_.network().kill(any(cluster_.daemons()), "SIGKILL"); }

void Faults::stop() {
  const PlaceId place = any(cluster_.daemons());
  cluster_.network().stop(place);
  for_a_while(Duration::from_ms(8'000), [this, place] { cluster_.network().resume(place); });
}

void Faults::cut() {
  const PlaceId one = any(cluster_.all()), other = any(cluster_.all());
  const uint64_t which = world_.draw(3);
  if (which != 1) cluster_.network().cut(one, other);
  if (which != 2) cluster_.network().cut(other, one);
  for_a_while(Duration::from_ms(9'000), [this, one, other] {
    cluster_.network().heal(one, other);
    cluster_.network().heal(other, one);
  });
}

void Faults::reset() {
  const PlaceId one = any(cluster_.all());
  cluster_.network().reset(one, any(cluster_.all()));
}

void Faults::slow() {
  const PlaceId place = any(cluster_.daemons());
  world_.say(cluster_.network().name(place), " becomes slow");
  cluster_.network().slow(place, 2 + static_cast<uint32_t>(world_.draw(200)));
  for_a_while(Duration::from_ms(6'000), [this, place] { cluster_.network().slow(place, 1); });
}

void Faults::corrupt_wire() {
  world_.say("the wire corrupts chunks");
  cluster_.network().corrupt_per_mille = 5 + static_cast<uint32_t>(world_.draw(300));
  for_a_while(Duration::from_ms(4'000), [this] { cluster_.network().corrupt_per_mille = 0; });
}

void Faults::corrupt_arena() {
  const PlaceId place = any(cluster_.memories());
  auto* server = static_cast<MemoryNode*>(cluster_.network().process(place));
  if (server == nullptr) return;
  world_.say("bytes go bad in the arena of ", server->name());
  cluster_.note_bad_bytes();
  server->corrupt_arena(world_.draw(1000));
}

void Faults::fill_disk() {
  world_.say("the controller's disk is full");
  cluster_.truth().disk.full = true;
  for_a_while(Duration::from_ms(5'000), [this] { cluster_.truth().disk.full = false; });
}

void Faults::slow_disk() {
  cluster_.truth().disk.append_latency = Duration::from_ms(400);
  for_a_while(Duration::from_ms(4'000), [this] { cluster_.truth().disk.append_latency = Duration::from_ms(2); });
}

void Faults::heal_all() {
  over_ = true;
  world_.say("all faults end");
  Network& network = cluster_.network();
  network.corrupt_per_mille = 0;
  cluster_.truth().disk.full = false;
  cluster_.truth().disk.append_latency = Duration::from_ms(2);
  for (const PlaceId one : cluster_.all()) {
    network.slow(one, 1);
    for (const PlaceId other : cluster_.all()) network.heal(one, other);
  }
  for (const PlaceId place : cluster_.daemons()) network.resume(place);
}

}  // namespace cenote::simulate
