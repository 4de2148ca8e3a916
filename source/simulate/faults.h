// simulate/faults.h - what befalls a cluster, drawn from the seed: kills, stops, cuts, slow ways, corrupt bytes, a full disk. All of it ends
// by heal_all(), except that bytes which went bad in an arena stay bad.
#pragma once

#include <functional>

#include "simulate/cluster.h"

namespace cenote::simulate {

class Faults {
 public:
  explicit Faults(Cluster& cluster, World& world) : cluster_(cluster), world_(world) {}

  // One, now. It may last a while.
  void strike();
  void heal_all();
  uint64_t count() const { return count_; }

 private:
  void kill();
  void stop();
  void cut();
  void reset();
  void slow();
  void corrupt_wire();
  void corrupt_arena();
  void fill_disk();
  void slow_disk();
  PlaceId any(const std::vector<PlaceId>& places) { return places[world_.draw(places.size())]; }
  void for_a_while(Duration at_most, std::function<void()> end);

  Cluster& cluster_;
  World& world_;
  uint64_t count_ = 0;
  bool over_ = false;
};

}  // namespace cenote::simulate
