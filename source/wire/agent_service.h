// wire/agent_service.h - the agent's end of Attach: one stream per executor of this host, over a Unix socket. Pins live as long as the
// stream, so its end is an event: a killed executor holds nothing.
//
// Handlers run on gRPC's threads, one at a time per stream, and must not block; on_closed comes exactly once per stream and last. A
// message that is not well formed ends its stream. send() and close(): any thread; unknown streams are ignored, for they have ended.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "grpcpp/impl/service_type.h"
#include "message/link.h"

namespace cenote::wire {

using StreamId = uint64_t;

struct AgentHandlers {
  std::function<void(StreamId, ExecutorUp)> on_message;
  std::function<void(StreamId, absl::Status)> on_closed;
};

class AgentService {
 public:
  static std::unique_ptr<AgentService> create(AgentHandlers handlers);
  virtual ~AgentService() = default;
  virtual grpc::Service* service() = 0;
  // A stream whose executor does not read (kResourceExhausted) is broken off.
  virtual void send(StreamId stream, const ExecutorDown& message) = 0;
  virtual void close(StreamId stream, absl::Status why) = 0;
  virtual void close_all() = 0;
};

}  // namespace cenote::wire
