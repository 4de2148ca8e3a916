// wire/inference_service.h - the server's end of Inference.Session, spoken by routers and executors: sessions by number, messages as
// structs. Handlers run on gRPC's threads and must not block; for one session they come one at a time: opened, messages, closed.
// Only daemons may reserve slots; a message that is not well formed ends its session with kInvalidArgument, the first one after the
// caller's certificate was revoked with kPermissionDenied.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "grpcpp/impl/service_type.h"
#include "wire/convert_infer.h"
#include "wire/revoked.h"

namespace cenote::wire {

struct InferenceHandlers {
  std::function<void(uint64_t session)> opened;   // Answer with a Welcome.
  std::function<void(uint64_t session, InferUp)> arrived;
  std::function<void(uint64_t session)> closed;
};

// Thread-safe. Must outlive its Server, and the handlers' targets the service.
class InferenceService {
 public:
  static std::unique_ptr<InferenceService> create(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked = nullptr);
  virtual ~InferenceService() = default;
  virtual grpc::Service* service() = 0;
  // Moves the payload. To a session that has ended: nothing happens. A peer that does not read (kQueueMax messages wait) loses its
  // session.
  virtual void send(uint64_t session, InferDown message) = 0;
  // What is sent between the two goes together, for each session. One thread, not nested.
  virtual void cork() = 0;
  virtual void uncork() = 0;
  virtual void close_all() = 0;  // After what was sent; new sessions are refused from now on.

  static constexpr size_t kQueueMax = 8192;
};

}  // namespace cenote::wire
