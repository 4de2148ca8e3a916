#include "fabric/libfabric/tcp_probe.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace cenote::fabric {

TcpProbe::~TcpProbe() {
  if (fd_ >= 0) close(fd_);
}

void TcpProbe::start(const std::string& socket_address) {
  CENOTE_CHECK(!started_);
  started_ = true;
  sockaddr_storage address{};
  CENOTE_CHECK(socket_address.size() <= sizeof address);
  std::memcpy(&address, socket_address.data(), socket_address.size());
  fd_ = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return settle(0);
  const int result = connect(fd_, reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(socket_address.size()));
  if (result == 0) return settle(0);
  if (errno != EINPROGRESS) settle(errno);
}

void TcpProbe::settle(int error) {
  const bool refused = error == ECONNREFUSED || error == ECONNRESET || error == EHOSTUNREACH || error == ENETUNREACH;
  answer_ = refused ? Answer::kRefused : Answer::kSomebody;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

TcpProbe::Answer TcpProbe::answer() {
  if (fd_ < 0) return answer_;
  pollfd waited{.fd = fd_, .events = POLLOUT, .revents = 0};
  if (::poll(&waited, 1, 0) <= 0) return Answer::kNotYet;
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = 0;
  settle(error);
  return answer_;
}

}  // namespace cenote::fabric
