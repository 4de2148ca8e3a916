// simulate/supervisor_node.h - node/supervisor.h in a place of the simulator: daemons that died start again after its back-off. It is never
// harmed itself.
#pragma once

#include <functional>

#include "node/supervisor.h"
#include "simulate/network.h"

namespace cenote::simulate {

class SupervisorNode final : public Process {
 public:
  // `make` gives the process that is to run in a place.
  using Make = std::function<std::unique_ptr<Process>(const std::string& name)>;
  SupervisorNode(Network& network, PlaceId place, Incarnation incarnation, node::SupervisorOptions options, Make make);

  void run(Instant now) override;
  Instant due() const override { return machine_.next_deadline(); }

 private:
  node::Supervisor machine_;
  const Make make_;
  std::vector<node::SupervisorEvent> inputs_;
  std::map<std::string, int64_t> pids_;
  int64_t next_pid_ = 1;
};

}  // namespace cenote::simulate
