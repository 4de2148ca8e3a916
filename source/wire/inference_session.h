// wire/inference_session.h - the caller's end of Inference.Session: a client's or a router's long-lived link to a router or an executor.
// Connects when started; another session after its end is the owner's business.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "message/infer.h"
#include "wire/convert_infer.h"
#include "wire/credentials.h"

namespace cenote::wire {

// On gRPC's threads, one at a time, in order; neither may block. on_closed comes exactly once and last. A message that is not well
// formed ends the session with kInvalidArgument.
struct InferenceSessionEvents {
  std::function<void(InferDown)> on_message;  // Welcome first.
  std::function<void(absl::Status)> on_closed;
  std::function<void()> on_settled;            // After the last of what came together. May be empty.
};

// How a request is sent, where it differs from the request itself.
struct SendAs {
  Duration budget;
  Digest revision;
  bool by_ticket = false;
};

// Thread-safe. In two steps, so that the owner can note the session before its first event comes. A started one must be closed;
// on_closed then comes, after which nothing refers to the events any more.
class InferenceSession {
 public:
  static std::shared_ptr<InferenceSession> create(const std::string& address, const Identity& identity);
  virtual ~InferenceSession() = default;
  virtual void start(InferenceSessionEvents events) = 0;  // Once, before anything else.
  // Errors: kUnavailable (closed), kResourceExhausted (far more waits than the peer's welcome granted: it does not read, cancel()).
  // Copies the payload once, into the message.
  virtual absl::Status send(const InferRequest& request, const SendAs& as) = 0;
  virtual absl::Status send(const InferRequest& request) = 0;
  virtual absl::Status send(const CancelInfer& cancel) = 0;
  virtual absl::Status send(const ReserveSlot& reserve) = 0;
  // What is sent between the two goes together. One thread, not nested.
  virtual void cork() = 0;
  virtual void uncork() = 0;
  virtual void close() = 0;    // What was sent is sent; then the end.
  virtual void cancel() = 0;   // At once; also before start(), which then ends it.
};

}  // namespace cenote::wire
