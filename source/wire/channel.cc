#include "wire/channel.h"

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/channel_arguments.h"
#include "wire/bulk_arguments.h"
#include "wire/grpc_log.h"

namespace cenote::wire {
namespace {

// gRPC 1.51 runs callbacks on threads that the last channel to go ends and joins; when a callback itself drops that channel, a thread
// joins itself and the process dies. So one channel that leads nowhere holds them for good: it makes a call that is over at once.
void hold_callback_threads() {
  struct Held {
    std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel("unix:/nonexistent", grpc::InsecureChannelCredentials());
    grpc::GenericStub stub{channel};
    grpc::ClientContext context;
    grpc::Slice nothing;
    grpc::ByteBuffer request{&nothing, 1};  // One without slices cannot be sent.
    grpc::ByteBuffer reply;
  };
  static Held* volatile held = [] {  // Never freed. Volatile: a pointer that nobody reads is not kept, and a leak checker must find it.
    auto* made = new Held;
    made->context.set_deadline(std::chrono::system_clock::now());
    made->stub.UnaryCall(&made->context, "/cenote.v1.None/None", grpc::StubOptions(), &made->request, &made->reply, [](const grpc::Status&) {});
    return made;
  }();
  (void)held;
}

}  // namespace

std::shared_ptr<grpc::Channel> open_channel(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                            const ChannelOptions& options) {
  quiet_grpc_log();
  hold_callback_threads();
  grpc::ChannelArguments arguments;
  const auto ms = [](Duration d) { return static_cast<int>(d.us() / 1000); };
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, ms(kPingInterval));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, ms(kPingTimeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, ms(options.backoff_min));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, ms(kPingTimeout));  // Also the limit of one connection attempt.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, ms(options.backoff_max));
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // A proxy of the environment is for the web, not for the cluster.
  for (const auto& [name, value] : kBulkArguments) arguments.SetInt(name, value);
  arguments.SetMaxReceiveMessageSize(options.message_bytes_max);
  arguments.SetMaxSendMessageSize(options.message_bytes_max);
  const bool local = address.rfind("unix:", 0) == 0;
  if (!local) arguments.SetSslTargetNameOverride(kNodeName);
  return grpc::CreateCustomChannel(local ? address : "dns:///" + address, credentials, arguments);
}

std::string format_address(const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos && host.front() != '[';
  return v6 ? str_cat("[", host, "]:", port) : str_cat(host, ":", port);
}

absl::StatusOr<HostPort> parse_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort out;
  uint32_t port = 0;
  if (colon != std::string::npos && colon > 0 && absl::SimpleAtoi(address.substr(colon + 1), &port) && port <= 65535) {
    out.host = address.substr(0, colon);
    out.port = static_cast<uint16_t>(port);
    if (out.host.front() == '[' && out.host.back() == ']') out.host = out.host.substr(1, out.host.size() - 2);
    if (!out.host.empty()) return out;
  }
  return absl::InvalidArgumentError(str_cat("address '", address, "': write HOST:PORT, for example 127.0.0.1:7700"));
}

}  // namespace cenote::wire
