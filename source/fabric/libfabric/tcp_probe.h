// fabric/libfabric/tcp_probe.h - asks the kernel whether anybody listens at a TCP address.
//
// ofi_rxm says "again" both while it connects and for ever after a refused connection. A connection of our own tells the two
// apart in a millisecond; it carries nothing and is closed at once. Single owner.
#pragma once

#include <cstdint>
#include <string>

namespace cenote::fabric {

class TcpProbe {
 public:
  enum class Answer : uint8_t { kNotYet, kRefused, kSomebody };

  TcpProbe() = default;
  ~TcpProbe();
  TcpProbe(const TcpProbe&) = delete;
  TcpProbe& operator=(const TcpProbe&) = delete;

  bool started() const { return started_; }
  // `socket_address`: a checked sockaddr_in or sockaddr_in6. Once.
  void start(const std::string& socket_address);
  // kSomebody also when it cannot be known. Never blocks.
  Answer answer();

 private:
  void settle(int error);

  bool started_ = false;
  int fd_ = -1;
  Answer answer_ = Answer::kNotYet;
};

}  // namespace cenote::fabric
