// message/infer.h - a request to a graph model, its reply, and where the time went.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "message/tensor.h"

namespace cenote {

// Inputs and replies up to this travel through the router; larger ones go straight between client and executor by ticket.
inline constexpr size_t kInlinePayloadBytesMax = 64 << 10;
// Upper bound of one request's or reply's tensors together.
inline constexpr size_t kPayloadBytesMax = 256 << 20;

// Where the weights were when the request reached its executor.
enum class Temperature : uint8_t { kUnknown = 0, kCold = 1, kCached = 2, kResident = 3 };

// Time and bytes of one request, microseconds. Stages overlap, so they need not sum to total_us.
struct Waterfall {
  Temperature temperature = Temperature::kUnknown;
  int64_t queue_us = 0;     // In the executor's queue.
  int64_t resolve_us = 0;   // Asking the agent, grants, manifest, graph.
  int64_t network_us = 0;   // From the first read posted to the last byte arrived.
  int64_t verify_us = 0;    // XXH3 of arriving chunks.
  int64_t copy_us = 0;      // Mapping, or cache to device.
  int64_t wait_us = 0;      // Compute waiting for a group.
  int64_t compute_us = 0;   // First operator to last, waits not counted.
  int64_t total_us = 0;     // At the executor, arrival to reply.
  int64_t router_us = 0;    // In the router before it was handed on.
  uint64_t network_bytes = 0;
  uint64_t copied_bytes = 0;
};

struct InferRequest {
  RequestId id;
  std::string model;      // "name", "name:tag" or "name@digest"; the router resolves it.
  Digest revision;        // Empty until resolved.
  Duration budget;        // What is left of the deadline when this message was sent.
  std::vector<Tensor> inputs;
  uint64_t payload_bytes = 0;  // Sum of the inputs' bytes; set also when `inputs` stays behind for a ticket.
  bool by_ticket = false;      // To a router: inputs carry shapes, no bytes. To an executor: admitted already.
};

struct InferReply {
  RequestId id;
  absl::Status status;
  std::vector<Tensor> outputs;  // In the signature's order.
  Digest revision;
  std::string executor;         // Who answered, e.g. "agent-0/host:0".
  Waterfall waterfall;
};

// "Send the payload to this executor yourself." The slot is held until expires_in has passed.
struct Ticket {
  RequestId id;
  std::string executor_address;  // host:port
  Incarnation executor_incarnation = 0;
  Digest revision;
  Duration expires_in;
};

}  // namespace cenote
