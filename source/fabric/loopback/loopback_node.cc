#include "fabric/loopback/loopback_node.h"

#include <chrono>
#include <map>
#include <utility>

#include "base/status.h"

namespace cenote::fabric {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<LoopbackNode>> nodes;
  uint64_t next = 1 << 16;  // Above every port.
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

bool LoopbackNode::submit(LoopbackRequestPtr request) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  submitted_.push_back(std::move(request));
  changed_.notify_one();
  return true;
}

void LoopbackNode::finish(LoopbackRequestPtr request) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  finished_.push_back(std::move(request));
  changed_.notify_one();
}

void LoopbackNode::wake() {
  const std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

std::deque<LoopbackRequestPtr> LoopbackNode::take_submitted() {
  const std::lock_guard lock(mutex_);
  return std::exchange(submitted_, {});
}

std::deque<LoopbackRequestPtr> LoopbackNode::take_finished() {
  const std::lock_guard lock(mutex_);
  return std::exchange(finished_, {});
}

bool LoopbackNode::wait(Instant until) {
  // A year is for ever, and does not overflow the clock.
  const Instant latest = monotonic_now() + Duration::from_seconds(365.0 * 86'400);
  const std::chrono::steady_clock::time_point limit{std::chrono::nanoseconds(std::min(until, latest).ns)};
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, limit, [this] { return woken_ || !submitted_.empty() || !finished_.empty(); });
  return std::exchange(woken_, false);
}

void LoopbackNode::close() {
  std::deque<LoopbackRequestPtr> unserved;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    unserved = std::exchange(submitted_, {});
    finished_.clear();
  }
  for (LoopbackRequestPtr& request : unserved) {
    {
      const std::lock_guard lock(request->mutex);
      if (request->state != LoopbackRequest::State::kQueued) continue;
      request->state = LoopbackRequest::State::kRefused;
    }
    LoopbackNode& initiator = *request->initiator;
    initiator.finish(std::move(request));
  }
}

absl::StatusOr<std::string> publish_node(uint16_t port, const std::shared_ptr<LoopbackNode>& node) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const std::string address = absl::StrCat("loopback:", port != 0 ? port : all.next++);
  if (!all.nodes.emplace(address, node).second) {
    return absl::AlreadyExistsError(absl::StrCat("fabric: loopback port ", port, " is taken in this process; close that Transport first"));
  }
  return address;
}

void withdraw_node(const std::string& address) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.nodes.erase(address);
}

std::shared_ptr<LoopbackNode> find_node(const std::string& address) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.nodes.find(address);
  return found == all.nodes.end() ? nullptr : found->second;
}

}  // namespace cenote::fabric
