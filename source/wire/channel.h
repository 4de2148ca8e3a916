// wire/channel.h - connections to peers, with what every one of them needs: mutual TLS, keepalive pings so that a silent peer (stopped,
// unplugged) becomes kUnavailable within kSilenceMax, and a bound on message size.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/channel.h"
#include "wire/credentials.h"

namespace cenote::wire {

// A ping each kPingInterval, answered within kPingTimeout, whether calls run or not.
inline constexpr Duration kPingInterval = Duration::from_ms(2'000);
inline constexpr Duration kPingTimeout = Duration::from_ms(3'000);
inline constexpr Duration kSilenceMax = kPingInterval + kPingTimeout;

// Links that carry payloads; all others.
inline constexpr int kPayloadMessageBytesMax = 300 << 20;
inline constexpr int kControlMessageBytesMax = 64 << 20;

struct ChannelOptions {
  int message_bytes_max = kControlMessageBytesMax;
  // Reconnecting starts after the first and backs off to the second.
  Duration backoff_min = Duration::from_ms(50);
  Duration backoff_max = Duration::from_ms(1'000);
};

// "host:port", or "unix:/path/NAME.sock". Connects when first used. Two calls give two connections. Any thread.
std::shared_ptr<grpc::Channel> open_channel(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                            const ChannelOptions& options = {});

// "10.0.0.1" and 7700 -> "10.0.0.1:7700"; "::1" -> "[::1]:7700".
std::string format_address(const std::string& host, uint16_t port);
// The reverse; kInvalidArgument shows the text and an example.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
absl::StatusOr<HostPort> parse_address(const std::string& address);

}  // namespace cenote::wire
