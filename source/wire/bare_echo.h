// wire/bare_echo.h - what gRPC itself can do, for benchmarks: a stream of opaque messages over mutual TLS from a client to a server that
// answers each with one of a fixed size, directly or through a relay that passes messages on. No protobuf, no queue but the one that
// one write at a time asks for, the same channel arguments as every link (wire/channel.h). Nothing of a cluster uses it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "wire/credentials.h"

namespace cenote::wire {

// Answers, or relays to another one. Thread-safe; ends its streams when destroyed.
class BareServer {
 public:
  struct Options {
    std::string forward_to;   // host:port of another one; empty: it answers itself,
    size_t reply_bytes = 0;   // with messages of this size.
  };
  static absl::StatusOr<std::unique_ptr<BareServer>> start(const Identity& identity, Options options);
  virtual ~BareServer() = default;
  virtual std::string address() const = 0;
};

// Replies come in the order of what was sent, on gRPC's threads, one at a time.
class BareClient {
 public:
  static std::unique_ptr<BareClient> open(const std::string& address, const Identity& identity, size_t message_bytes,
                                          std::function<void()> on_reply);
  virtual ~BareClient() = default;  // Ends the stream; no reply comes afterwards.
  virtual void send() = 0;          // Any thread.
};

}  // namespace cenote::wire
