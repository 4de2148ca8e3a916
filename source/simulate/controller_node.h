// simulate/controller_node.h - node/controller.h in a place of the simulator: its store, its members' streams, its callers.
#pragma once

#include <memory>

#include "node/controller.h"
#include "simulate/calls.h"
#include "simulate/session.h"
#include "simulate/truth.h"

namespace cenote::simulate {

class ControllerNode final : public Process {
 public:
  ControllerNode(Network& network, PlaceId place, Incarnation incarnation, const node::ControllerOptions& options, Truth& truth);

  void start() override {}
  void run(Instant now) override;
  Instant due() const override { return machine_->next_deadline(); }
  void killed() override;

  void take(const std::shared_ptr<JoinWire>& wire);
  // Any event that asks, with how it is answered.
  template <typename Ask, typename Result>
  void ask(Ask event, Network::Answer<Result> done) {
    event.call = calls_of<Result>().add(next_call_, std::move(done));
    inputs_.emplace_back(std::move(event));
  }
  const node::Controller& machine() const { return *machine_; }
  size_t unanswered() const;

 private:
  template <typename Result>
  Calls<Result>& calls_of();
  void perform(node::AppendEvents& action);
  void perform(node::SendDirective& action);
  void perform(node::RefuseStream& action);
  void perform(node::Say& action) { world().say(name(), ": ", action.text); }
  void perform(node::PlanReply& reply) { plans_.finish(world(), reply.call, std::move(reply.result)); }
  void perform(node::CommitReply& reply);
  void perform(node::TagMoveReply& reply);
  void perform(node::RemovalReply& reply);
  void perform(node::ModelsReply& reply) { models_.finish(world(), reply.call, std::move(reply.result)); }
  void perform(node::ClusterReply& reply) { clusters_.finish(world(), reply.call, std::move(reply.result)); }
  void perform(node::UnclaimedReply&) { world().fail(str_cat(name(), " answers what nobody asked: what is unclaimed")); }
  void perform(node::DoneReply& reply) { dones_.finish(world(), reply.call, reply.result); }

  Truth& truth_;
  std::unique_ptr<node::Controller> machine_;
  std::vector<node::ControllerEvent> inputs_;
  std::map<node::StreamId, std::shared_ptr<JoinWire>> streams_;
  node::StreamId next_stream_ = 1;
  std::vector<CatalogueEvent> appending_;   // Handed to the disk, which has not taken it yet.
  uint64_t next_call_ = 1;
  Calls<absl::StatusOr<DeployPlan>> plans_;
  Calls<absl::StatusOr<DeployResult>> commits_;
  Calls<absl::StatusOr<TagMove>> moves_;
  Calls<absl::StatusOr<Removal>> removals_;
  Calls<absl::StatusOr<std::vector<ModelInfo>>> models_;
  Calls<absl::StatusOr<ClusterStatus>> clusters_;
  Calls<absl::Status> dones_;
};

template <> inline Calls<absl::StatusOr<DeployPlan>>& ControllerNode::calls_of() { return plans_; }
template <> inline Calls<absl::StatusOr<DeployResult>>& ControllerNode::calls_of() { return commits_; }
template <> inline Calls<absl::StatusOr<TagMove>>& ControllerNode::calls_of() { return moves_; }
template <> inline Calls<absl::StatusOr<Removal>>& ControllerNode::calls_of() { return removals_; }
template <> inline Calls<absl::StatusOr<std::vector<ModelInfo>>>& ControllerNode::calls_of() { return models_; }
template <> inline Calls<absl::StatusOr<ClusterStatus>>& ControllerNode::calls_of() { return clusters_; }
template <> inline Calls<absl::Status>& ControllerNode::calls_of() { return dones_; }

}  // namespace cenote::simulate
