// wire/unary.h - both ends of a unary call, with one status vocabulary: the caller's blocks, with deadline and cancellation; the
// server's answers when a handler is done. Only for .cc files of this room.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/server_callback.h"
#include "wire/cancellation.h"
#include "wire/convert_control.h"
#include "wire/convert_record.h"
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

// Ends a call at once; returns its reactor, as a service's method must.
inline grpc::ServerUnaryReactor* refuse(grpc::ServerUnaryReactor* reactor, const absl::Status& status) {
  reactor->Finish(to_grpc(status));
  return reactor;
}

// What a handler calls once with its result, on any thread: fills `reply` and ends the call.
template <typename Value, typename Reply>
std::function<void(absl::StatusOr<Value>)> reply_with(grpc::ServerUnaryReactor* reactor, Reply* reply) {
  return [reactor, reply](absl::StatusOr<Value> result) {
    if (result.ok()) to_proto(*result, reply);
    reactor->Finish(to_grpc(result.status()));
  };
}

// The same for calls that answer nothing but how it went.
inline std::function<void(absl::Status)> reply_with_status(grpc::ServerUnaryReactor* reactor) {
  return [reactor](const absl::Status& status) { reactor->Finish(to_grpc(status)); };
}

}  // namespace cenote::wire
