#include "simulate/supervisor_node.h"

namespace cenote::simulate {

SupervisorNode::SupervisorNode(Network& network, PlaceId place, Incarnation incarnation, node::SupervisorOptions options, Make make)
    : Process(network, place, incarnation), machine_(options), make_(std::move(make)) {
  for (const node::SupervisedChild& child : options.children) {
    network.on_exit(network.find(child.name), [this, name = child.name](Incarnation, const std::string& how) {
      const int64_t pid = pids_.at(name);
      this->network().deliver(this->place(), this->incarnation(), [this, pid, how] { inputs_.emplace_back(node::ChildExited{pid, how}); });
    });
  }
}

void SupervisorNode::run(Instant now) {
  for (bool first = true; first || !inputs_.empty(); first = false) {
    const std::vector<node::SupervisorEvent> events = std::exchange(inputs_, {});
    std::vector<node::SupervisorAction> actions;
    machine_.step(now, events, actions);
    for (const node::SupervisorAction& action : actions) {
      const auto* start = std::get_if<node::StartChild>(&action);
      if (start == nullptr) continue;
      pids_[start->name] = next_pid_;
      inputs_.emplace_back(node::ChildStarted{start->name, next_pid_++});
      network().start(network().find(start->name), make_(start->name));
    }
  }
}

}  // namespace cenote::simulate
