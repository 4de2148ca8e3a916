// wire/server.h - a gRPC server on one address. Handlers run on gRPC's threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/impl/service_type.h"
#include "grpcpp/server.h"
#include "wire/channel.h"

namespace cenote::wire {

struct ServerOptions {
  std::string host = "127.0.0.1";   // Nothing listens beyond loopback unless settings name an address.
  uint16_t port = 0;                // 0: chosen by the system.
  std::string unix_path;            // Instead of host and port; a stale socket file is replaced.
  int message_bytes_max = kControlMessageBytesMax;
  int receive_bytes_max = 0;        // Where less comes than goes; 0: the same.
};

// Owns the listening socket and the calls. The services must outlive it.
class Server {
 public:
  // kAlreadyExists: the port is taken, and by what remedy; kInvalidArgument: the host is not this machine's;
  // kPermissionDenied: a port below 1024 without the right.
  static absl::StatusOr<std::unique_ptr<Server>> start(const ServerOptions& options,
                                                       const std::shared_ptr<grpc::ServerCredentials>& credentials,
                                                       const std::vector<grpc::Service*>& services);
  ~Server();                         // stop(1 s).
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "host:port" with the port really bound, or "unix:/path".
  const std::string& address() const { return address_; }
  uint16_t port() const { return port_; }

  // Refuses new calls, lets running ones end within `grace`, then cancels them. Returns when none is left. Streams of wire/stream.h
  // should be closed before. Once; any thread but gRPC's.
  void stop(Duration grace);

 private:
  Server() = default;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::string unix_path_;
  uint16_t port_ = 0;
};

}  // namespace cenote::wire
