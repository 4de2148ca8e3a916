#include "fabric/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "base/status.h"
#include "fabric/libfabric/open.h"
#include "fabric/loopback/loopback.h"

namespace cenote::fabric {
namespace {

// Empty unless `bytes` are exactly an IPv4 or IPv6 socket address.
std::string socket_text(const std::string& bytes) {
  char text[INET6_ADDRSTRLEN] = {};
  if (bytes.size() == sizeof(sockaddr_in)) {
    sockaddr_in address{};
    std::memcpy(&address, bytes.data(), sizeof address);
    if (address.sin_family != AF_INET || inet_ntop(AF_INET, &address.sin_addr, text, sizeof text) == nullptr) return "";
    return absl::StrCat(text, ":", ntohs(address.sin_port));
  }
  if (bytes.size() == sizeof(sockaddr_in6)) {
    sockaddr_in6 address{};
    std::memcpy(&address, bytes.data(), sizeof address);
    if (address.sin6_family != AF_INET6 || inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text) == nullptr) return "";
    return absl::StrCat("[", text, "]:", ntohs(address.sin6_port));
  }
  return "";
}

bool printable(const std::string& bytes) {
  for (const char c : bytes) {
    if (c < 0x20 || c > 0x7e) return false;
  }
  return true;
}

}  // namespace

std::string describe(const Address& address) {
  std::string bytes = address.bytes.substr(0, kAddressBytesMax);
  std::string text = socket_text(bytes);
  if (text.empty() && !bytes.empty() && bytes.back() == '\0') bytes.pop_back();
  if (text.empty()) text = printable(bytes) ? bytes : absl::BytesToHexString(bytes);
  std::string provider = address.provider.substr(0, 64);
  if (!printable(provider)) provider = absl::BytesToHexString(provider);
  return absl::StrCat(provider, " ", text);
}

absl::StatusOr<std::unique_ptr<Transport>> open_transport(const TransportOptions& options) {
  if (options.provider == "loopback") return open_loopback(options);
  return open_libfabric(options);
}

}  // namespace cenote::fabric
