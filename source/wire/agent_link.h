// wire/agent_link.h - the executor's end of Attach: its line to the agent that spawned it. One per executor process, for its whole
// life: when it closes, the agent is gone or wants the executor gone, its pins are released, and the executor must end.
//
// Send an ExecutorReport first; Attached answers it. Callbacks run on gRPC's threads, one at a time, in order, and must not block;
// on_closed comes exactly once and last. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "message/link.h"

namespace cenote::wire {

struct AgentLinkEvents {
  std::function<void(ExecutorDown)> on_message;
  std::function<void(absl::Status)> on_closed;
};

class AgentLink {
 public:
  // `socket_path`: <state>/run/AGENT.sock. Connects at once in the background.
  static std::unique_ptr<AgentLink> open(const std::string& socket_path, AgentLinkEvents events);
  virtual ~AgentLink() = default;  // Ends the stream; waits until on_closed has run.
  // kUnavailable: closed. kResourceExhausted: the agent does not read. A report replaces one that still waits.
  virtual absl::Status send(const ExecutorUp& message) = 0;
  virtual void close() = 0;        // What was sent is sent; then the end. on_closed follows.
};

}  // namespace cenote::wire
