// simulate/workload.h - what people and callers do, drawn from the seed: deploys of made-up models that share blocks, changes of names,
// requests of all kinds, some cancelled.
#pragma once

#include "simulate/cluster.h"

namespace cenote::simulate {

class Workload {
 public:
  static constexpr Duration kProbeFor = Duration::from_seconds(8);
  static constexpr Duration kProbeDeadline = Duration::from_seconds(20);

  Workload(Cluster& cluster, World& world);

  void first_deploys();
  void manage();      // One thing that a person does.
  void call(Instant patience_end);   // One thing that a caller does; some wait as long as that.
  // Requests that must succeed, for all that can be fetched.
  void probe();
  void remove_all();
  bool idle() const;

 private:
  RevisionRecord make_record(uint64_t name);
  void deploy(uint64_t name, bool update);
  std::string any_model();

  Cluster& cluster_;
  World& world_;
  const uint64_t names_;
  uint64_t next_revision_ = 1;
};

}  // namespace cenote::simulate
