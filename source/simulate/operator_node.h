// simulate/operator_node.h - people and their tools: deploys block by block as python/cenote/deploy.py does, publishes, rolls back, removes,
// evicts, drains. One thing at a time; what was acknowledged must still be so at the end.
#pragma once

#include <deque>
#include <functional>

#include "node/controller.h"
#include "simulate/network.h"
#include "simulate/truth.h"

namespace cenote::simulate {

class OperatorNode final : public Process {
 public:
  OperatorNode(Network& network, PlaceId place, Incarnation incarnation, PlaceId controller, Truth& truth)
      : Process(network, place, incarnation), controller_(controller), truth_(truth) {}

  void run(Instant) override {}
  Instant due() const override { return Instant::infinite_future(); }

  // Each waits for those before it.
  void deploy(RevisionRecord record, std::string tag, bool update);
  void publish(std::string model, std::string tag);
  void rollback(std::string model);
  void remove(std::string model);
  void evict(std::string model);
  void drain(std::string member);
  bool idle() const { return !busy_ && jobs_.empty(); }

  // Tags whose last change was acknowledged -> target; empty: it was removed.
  const std::map<std::pair<std::string, std::string>, Digest>& acknowledged() const { return acknowledged_; }
  // Names of which some change was asked for and never answered: nothing is known of them.
  const std::set<std::string>& doubtful() const { return doubtful_; }

 private:
  // One deploy under way.
  struct Deploy {
    RevisionRecord record;
    std::string tag;
    std::vector<BlockRef> blocks;
    DeployPlan plan;
    size_t shares = 0;          // Servers still being written to.
    absl::Status status;        // The first failure.
  };
  using DeployRef = std::shared_ptr<Deploy>;
  using Share = std::shared_ptr<std::deque<BlockRef>>;

  void add(std::function<void()> job);
  void next();
  void over(const std::string& what, const absl::Status& status);
  void begun(const DeployRef& deploy, const absl::StatusOr<DeployPlan>& plan);
  void renew(const DeployRef& deploy);
  void send(const DeployRef& deploy, const std::string& server, const Share& left, Instant patience);
  void write(const DeployRef& deploy, const std::string& server, const Share& left, const SlabInfo& slab, const std::vector<SealRange>& ranges);
  void seal(const DeployRef& deploy, const std::string& server, const Share& left, const SlabInfo& slab, const std::vector<SealRange>& ranges);
  void shared(const DeployRef& deploy, const absl::Status& status);
  void commit(const DeployRef& deploy);
  void committed(const DeployRef& deploy, const absl::StatusOr<DeployResult>& result);
  void moved(const std::string& what, const std::string& name, const absl::StatusOr<TagMove>& move);
  void note(const std::string& name, const std::string& tag, const Digest& revision);
  void doubt(const std::string& name, const absl::Status& status);
  template <typename Result, typename Ask>
  void ask(Ask event, Duration timeout, std::function<void(Result)> done);

  const PlaceId controller_;
  Truth& truth_;
  std::deque<std::function<void()>> jobs_;
  bool busy_ = false;
  std::map<std::pair<std::string, std::string>, Digest> acknowledged_;
  std::set<std::string> doubtful_;
};

}  // namespace cenote::simulate
