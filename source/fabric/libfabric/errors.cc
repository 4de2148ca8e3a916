#include "fabric/libfabric/errors.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include <rdma/fabric.h>
#include <rdma/fi_errno.h>

#include "base/status.h"
#include "base/units.h"

namespace cenote::fabric {
namespace {

absl::StatusCode code_of(long error) {
  switch (error) {
    case FI_EADDRINUSE: return absl::StatusCode::kAlreadyExists;
    case FI_EADDRNOTAVAIL:
    case FI_EINVAL: return absl::StatusCode::kInvalidArgument;
    case FI_ENOMEM:
    case FI_EMFILE:
    case FI_ENOSPC: return absl::StatusCode::kResourceExhausted;
    case FI_EACCES:
    case FI_EPERM: return absl::StatusCode::kPermissionDenied;
    case FI_ENOSYS:
    case FI_ENODATA:
    case FI_EOPNOTSUPP: return absl::StatusCode::kUnimplemented;
    case FI_ECANCELED:
    case FI_ECONNREFUSED:
    case FI_ECONNRESET:
    case FI_ECONNABORTED:
    case FI_ENOTCONN:
    case FI_EHOSTUNREACH:
    case FI_ENETUNREACH:
    case FI_ETIMEDOUT: return absl::StatusCode::kUnavailable;
    default: return absl::StatusCode::kInternal;
  }
}

absl::Status invalid(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("fabric address: ", what)); }

absl::Status check_socket_address(absl::string_view bytes, uint32_t format) {
  if (bytes.size() < sizeof(sa_family_t)) return invalid(absl::StrCat(bytes.size(), " bytes are no socket address"));
  sa_family_t family = 0;
  std::memcpy(&family, bytes.data(), sizeof family);
  const bool v4 = family == AF_INET && bytes.size() == sizeof(sockaddr_in) && format != FI_SOCKADDR_IN6;
  const bool v6 = family == AF_INET6 && bytes.size() == sizeof(sockaddr_in6) && format != FI_SOCKADDR_IN;
  if (!v4 && !v6) {
    return invalid(absl::StrCat("family ", family, " with ", bytes.size(),
                                " bytes; IPv4 has 16, IPv6 28, and the peer's family must be ours (libfabric format ", format, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status fabric_error(long error, absl::string_view what) {
  if (error < 0) error = -error;
  return absl::Status(code_of(error), absl::StrCat(what, ": ", fi_strerror(static_cast<int>(error)), " (libfabric ", error, ")"));
}

absl::Status port_taken(absl::string_view address, uint16_t port) {
  return absl::AlreadyExistsError(
      absl::StrCat("fabric: port ", port, " of ", address, " is taken; stop the process that has it, or set another port"));
}

absl::Status registration_error(long error, uint64_t size_bytes, uint64_t memlock_limit_bytes, absl::string_view provider) {
  if (error < 0) error = -error;
  const std::string what = absl::StrCat("registering ", format_bytes(size_bytes), " with ", provider);
  // Providers report a refused pin as any of these.
  if (error != FI_ENOMEM && error != FI_EAGAIN && error != FI_EPERM && error != FI_ENOSPC) return fabric_error(error, what);
  const std::string why = absl::StrCat(what, ": ", fi_strerror(static_cast<int>(error)));
  if (memlock_limit_bytes == UINT64_MAX) {
    return absl::ResourceExhaustedError(absl::StrCat(why, "; locked memory is not limited, so the host or the device has none left"));
  }
  return absl::ResourceExhaustedError(absl::StrCat(why, "; the limit on locked memory is ", format_bytes(memlock_limit_bytes),
                                                   ". Raise it: `ulimit -l unlimited`, or memlock in /etc/security/limits.conf"));
}

absl::Status check_address(const Address& address, absl::string_view provider, uint32_t address_format, size_t own_bytes) {
  if (address.provider != provider) {
    return invalid(absl::StrCat("the peer speaks ", address.provider.substr(0, 64), ", this transport ", provider));
  }
  const absl::string_view bytes = address.bytes;
  if (bytes.empty() || bytes.size() > kAddressBytesMax) {
    return invalid(absl::StrCat(bytes.size(), " bytes; 1 to ", kAddressBytesMax, " are allowed"));
  }
  switch (address_format) {
    case FI_SOCKADDR:
    case FI_SOCKADDR_IN:
    case FI_SOCKADDR_IN6: return check_socket_address(bytes, address_format);
    case FI_ADDR_STR:
      // The provider reads text up to its end; there must be exactly one.
      if (bytes.find('\0') != bytes.size() - 1) return invalid("text that does not end in one NUL");
      return absl::OkStatus();
    default:
      if (bytes.size() != own_bytes) {
        return invalid(absl::StrCat(bytes.size(), " bytes; addresses of ", provider, " have ", own_bytes));
      }
      return absl::OkStatus();
  }
}

}  // namespace cenote::fabric
