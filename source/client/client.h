// client/client.h - asks a cluster: each request is kept until it is answered, resent by its id through another router when one is
// lost, and its payload streamed straight to an executor when it is large, or when the model's last reply was (node/client.h).
//
// Thread-safe. One connection per router and per executor met, however many requests are under way.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "message/infer.h"
#include "wire/cancellation.h"
#include "wire/credentials.h"

namespace cenote {

struct ClientOptions {
  std::vector<std::string> routers;  // host:port, at least one.
  wire::Identity identity;           // client or node certificate
};

class Client {
 public:
  // Connects at once, without waiting: infer() waits for a router until its deadline.
  static std::unique_ptr<Client> open(ClientOptions options);
  // Requests under way end with kCancelled before it returns.
  virtual ~Client() = default;

  using Done = std::function<void(absl::StatusOr<InferReply>)>;
  // `request.model` and `request.inputs` are what counts; an empty id is chosen here. kInvalidArgument: a tensor whose shape and bytes
  // disagree, or more than kPayloadBytesMax. `done` comes exactly once, on any thread, perhaps within the call; it must not block.
  // A reply with a bad status comes as that status. Returns the id, for cancel().
  virtual RequestId infer(InferRequest request, Duration timeout, Done done) = 0;
  virtual void cancel(const RequestId& id) = 0;
  // What the next reply of a model (named as requests will name it) takes, for a caller who knows it before the first one came.
  virtual void expect_reply(const std::string& model, uint64_t bytes) = 0;

  // Blocking form.
  absl::StatusOr<InferReply> infer(InferRequest request, Duration timeout, wire::Cancellation* cancellation = nullptr);
};

}  // namespace cenote
