#include "wire/server.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/status.h"
#include "grpcpp/server_builder.h"
#include "wire/bulk_arguments.h"
#include "wire/grpc_log.h"

namespace cenote::wire {
namespace {

// gRPC says only that it could not listen; binding once by hand says why.
absl::Status explain_bind_failure(const std::string& host, uint16_t port) {
  const std::string address = format_address(host, port);
  addrinfo hints{.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), str_cat(port).c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(str_cat("cannot listen on ", address, ": ", gai_strerror(error), "; correct `host` in the settings"));
  }
  int error = 0;
  for (addrinfo* entry = found; entry != nullptr && error == 0; entry = entry->ai_next) {
    const int fd = socket(entry->ai_family, entry->ai_socktype | SOCK_CLOEXEC, entry->ai_protocol);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, entry->ai_addr, entry->ai_addrlen) != 0 || listen(fd, 1) != 0) error = errno;
    if (fd >= 0) close(fd);
  }
  freeaddrinfo(found);
  if (error == EADDRINUSE || error == 0) {
    return absl::AlreadyExistsError(str_cat("port ", port, " on ", host, " is taken: stop the process that listens there (`ss -ltnp`) "
                                            "or choose another port in the settings"));
  }
  if (error == EADDRNOTAVAIL) {
    return absl::InvalidArgumentError(str_cat("cannot listen on ", address, ": ", host,
                                              " is not an address of this machine; correct `host` in the settings"));
  }
  return errno_status(error, str_cat("cannot listen on ", address));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::start(const ServerOptions& options,
                                                      const std::shared_ptr<grpc::ServerCredentials>& credentials,
                                                      const std::vector<grpc::Service*>& services) {
  quiet_grpc_log();
  const bool local = !options.unix_path.empty();
  std::unique_ptr<Server> out(new Server);
  grpc::ServerBuilder builder;
  const auto ms = [](Duration d) { return static_cast<int>(d.us() / 1000); };
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // Else a second daemon shares a taken port in silence.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, ms(kPingInterval));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ms(kPingTimeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, ms(kPingInterval) / 4);
  for (const auto& [name, value] : kBulkArguments) builder.AddChannelArgument(name, value);
  builder.SetMaxReceiveMessageSize(options.receive_bytes_max > 0 ? options.receive_bytes_max : options.message_bytes_max);
  builder.SetMaxSendMessageSize(options.message_bytes_max);
  int bound_port = 0;
  if (local) {
    ::unlink(options.unix_path.c_str());
    builder.AddListeningPort("unix:" + options.unix_path, credentials, &bound_port);
  } else {
    builder.AddListeningPort(format_address(options.host, options.port), credentials, &bound_port);
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  out->server_ = builder.BuildAndStart();
  if (out->server_ == nullptr || bound_port <= 0) {
    out->server_.reset();
    if (local) {
      return absl::InternalError(str_cat("cannot listen on Unix socket ", options.unix_path,
                                         ": the directory must exist and the path be shorter than 108 bytes"));
    }
    return explain_bind_failure(options.host, options.port);
  }
  out->unix_path_ = options.unix_path;
  out->port_ = local ? 0 : static_cast<uint16_t>(bound_port);
  out->address_ = local ? "unix:" + options.unix_path : format_address(options.host, out->port_);
  return out;
}

Server::~Server() { stop(Duration::from_seconds(1)); }

void Server::stop(Duration grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::microseconds(grace.us()));
  server_->Wait();
  server_.reset();
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

}  // namespace cenote::wire
