// wire/unary.h - one blocking unary call: deadline, cancellation, one status vocabulary. Only for .cc files of this room.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/client_context.h"
#include "wire/cancellation.h"
#include "wire/status.h"

namespace cenote::wire {

struct UnaryOptions {
  Duration timeout;
  Cancellation* cancellation = nullptr;
  bool wait_for_ready = false;  // Ride out a peer that restarts, up to the timeout.
};

inline void set_timeout(grpc::ClientContext& context, Duration timeout) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::microseconds(timeout.us()));
}

// unary<Reply>(peer, options, request, [&](auto* context, const auto& request, auto* reply) { return stub->Call(context, request, reply); })
template <typename Reply, typename Request, typename Call>
absl::StatusOr<Reply> unary(const std::string& peer, const UnaryOptions& options, const Request& request, Call&& call) {
  grpc::ClientContext context;
  set_timeout(context, options.timeout);
  context.set_wait_for_ready(options.wait_for_ready);
  const Cancellation::Scope scope(options.cancellation, [&context] { context.TryCancel(); });
  Reply reply;
  const grpc::Status status = call(&context, request, &reply);
  if (!status.ok()) return from_grpc(status, peer);
  return reply;
}

}  // namespace cenote::wire
