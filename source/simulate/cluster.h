// simulate/cluster.h - one made-up cluster: which places there are and what runs in them, drawn from the seed, and what must be so when no
// fault is left. It knows every role; nothing below it does.
#pragma once

#include <string>
#include <vector>

#include "simulate/agent_node.h"
#include "simulate/client_node.h"
#include "simulate/controller_node.h"
#include "simulate/executor_node.h"
#include "simulate/memory_node.h"
#include "simulate/operator_node.h"
#include "simulate/router_node.h"
#include "simulate/supervisor_node.h"

namespace cenote::simulate {

class Cluster {
 public:
  explicit Cluster(World& world);

  Network& network() { return network_; }
  Truth& truth() { return truth_; }
  // Daemons that a fault may harm, executors too; clients and operators are people and go on.
  const std::vector<PlaceId>& daemons() const { return daemons_; }
  const std::vector<PlaceId>& memories() const { return memories_; }
  PlaceId controller() const { return controller_; }
  const std::vector<PlaceId>& all() const { return all_; }
  void note_bad_bytes() { bytes_lost_ = true; }   // In an arena.
  void note_peace();                              // No fault is left.
  ClientNode& client(size_t n) { return static_cast<ClientNode&>(*network_.process(clients_[n % clients_.size()])); }
  OperatorNode& person(size_t n) { return static_cast<OperatorNode&>(*network_.process(operators_[n % operators_.size()])); }
  size_t operators() const { return operators_.size(); }
  size_t clients() const { return clients_.size(); }
  std::vector<std::string> drainable() const;

  // A right copy of each of its blocks lies on a server that runs, as the catalogue knows.
  bool can_be_fetched(const Digest& revision) const;
  bool healthy() const;                  // All revisions can be.

  // ---- when all is quiet
  void check_members() const;            // Everyone runs.
  void check_no_leaks() const;
  void check_acknowledged() const;
  void check_nothing_lost() const;       // Neither blocks nor requests that there was time for.
  void check_replicas() const;           // As many of each block as there can be, where a right one is left to copy.
  void check_empty() const;              // After everything was removed.

 private:
  std::unique_ptr<Process> make(const std::string& name);
  void check_agents() const;
  void check_memories() const;

  World& world_;
  bool bytes_lost_ = false;              // A memory server ended, or bytes in it went bad.
  bool all_fetchable_ = false;           // Every revision, when peace came.
  Network network_;
  Truth truth_;
  node::ControllerOptions controller_options_;
  MemoryShape memory_shape_;
  node::RouterOptions router_options_;
  std::map<std::string, AgentShape> agent_shapes_;
  PlaceId controller_ = 0;
  std::vector<PlaceId> memories_, agents_, executors_, routers_, clients_, operators_, daemons_, all_;
};

}  // namespace cenote::simulate
