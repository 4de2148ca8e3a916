// fabric/loopback/loopback_node.h - the part of a loopback Transport that other threads touch: its mailboxes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "fabric/transport.h"

namespace cenote::fabric {

class LoopbackNode;

// One read or write on its way. The initiator owns the local bytes again once `state` has left kQueued, and only the holder
// of `mutex` changes it; so a deadline waits for a copy in progress and forbids a later one.
struct LoopbackRequest {
  enum class State : uint8_t { kQueued, kDone, kRefused, kCancelled };

  std::shared_ptr<LoopbackNode> initiator;
  bool write = false;
  RemoteSpan remote;
  std::byte* local = nullptr;
  Tag tag = 0;
  Instant deadline;
  uint64_t endpoint = 0;  // Of the initiator's; a number, since the endpoint may be gone.
  uint64_t sequence = 0;  // Of that endpoint's operations.

  std::mutex mutex;
  State state = State::kQueued;
};
using LoopbackRequestPtr = std::shared_ptr<LoopbackRequest>;

// Any thread. Bounded by what initiators may have in flight.
class LoopbackNode {
 public:
  // False: this node is closed and will never serve.
  bool submit(LoopbackRequestPtr request);
  void finish(LoopbackRequestPtr request);  // To the initiator: `request` was served or refused.
  void wake();
  std::deque<LoopbackRequestPtr> take_submitted();
  std::deque<LoopbackRequestPtr> take_finished();
  // Until there is something to take, a wake(), or `until`. True: woken.
  bool wait(Instant until);
  // Refuses what was submitted and all that comes.
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  bool woken_ = false;
  std::deque<LoopbackRequestPtr> submitted_;
  std::deque<LoopbackRequestPtr> finished_;
};

// The process's nodes by address. kAlreadyExists if the port is taken; port 0: a fresh address.
absl::StatusOr<std::string> publish_node(uint16_t port, const std::shared_ptr<LoopbackNode>& node);
void withdraw_node(const std::string& address);
std::shared_ptr<LoopbackNode> find_node(const std::string& address);  // Null: nobody there.

}  // namespace cenote::fabric
