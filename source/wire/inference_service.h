// wire/inference_service.h - the server's end of Inference.Session, spoken by routers and executors: sessions by number, messages as
// structs. Handlers run on gRPC's threads and must not block; for one session they come one at a time: opened, messages, closed.
// Only daemons may reserve slots; a message that is not well formed ends its session with kInvalidArgument, the first one after the
// caller's certificate was revoked with kPermissionDenied.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/impl/service_type.h"
#include "wire/channel.h"
#include "wire/convert_infer.h"
#include "wire/revoked.h"

namespace cenote::wire {

struct InferenceHandlers {
  std::function<void(uint64_t session)> opened;   // Answer with a Welcome.
  std::function<void(uint64_t session, InferUp)> arrived;
  std::function<void(uint64_t session)> closed;
  std::function<void()> settled;                  // After the last of what arrived together. May be empty.
};

// What callers may take of a server. Predicted: an idle session, with a connection of its own, 150 KiB, most of it TLS's and gRPC's buffers.
struct InferenceLimits {
  size_t sessions_max = 16384;                  // One more is refused with kResourceExhausted,
  std::string setting = "the limit";            // which names this.
  // That wait for a caller who does not read; more, and he loses his session. Two of the largest replies may, since one step may bring them.
  uint64_t session_bytes_max = uint64_t{2} * kPayloadMessageBytesMax;
  uint64_t backlog_bytes_max = uint64_t{2} << 30;  // Of all together; beyond that who has the most loses his.
};

// Thread-safe. Must outlive its Server, and the handlers' targets the service.
class InferenceService {
 public:
  static std::unique_ptr<InferenceService> create(InferenceHandlers handlers, std::shared_ptr<RevokedCertificates> revoked = nullptr,
                                                  InferenceLimits limits = {});
  virtual ~InferenceService() = default;
  virtual grpc::Service* service() = 0;
  // Moves the payload. To a session that has ended: nothing happens. A peer that does not read (kQueueMax messages wait, or as many bytes
  // as the limits allow) loses its session.
  virtual void send(uint64_t session, InferDown message) = 0;
  // What is sent between the two goes together, for each session. One thread, not nested.
  virtual void cork() = 0;
  virtual void uncork() = 0;
  virtual size_t sessions() const = 0;
  virtual void close_all() = 0;  // After what was sent; new sessions are refused from now on.

  static constexpr size_t kQueueMax = 8192;
};

}  // namespace cenote::wire
