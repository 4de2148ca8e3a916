// Goal: asking whether an address can be reached never blocks, and an answer comes. What it says of a dead host is for tests/verbs to see.
#include "fabric/libfabric/address_probe.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/clock.h"

namespace cenote::fabric {
namespace {

std::string socket_address(const char* host, uint16_t port) {
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &address.sin_addr);
  return {reinterpret_cast<const char*>(&address), sizeof address};
}

TEST(AddressProbe, answers_in_time_and_does_not_hold_up_who_asks) {
  AddressProbe probe;
  EXPECT_FALSE(probe.started());
  probe.start(socket_address("127.0.0.1", 7711), socket_address("127.0.0.1", 7712));
  EXPECT_TRUE(probe.started());
  const Instant until = monotonic_now() + Duration::from_seconds(20);
  while (probe.answer() == AddressProbe::Answer::kNotYet && monotonic_now() < until) usleep(1000);
  // Reachable also where this host has no RDMA to ask: then the provider finds out for itself.
  EXPECT_NE(probe.answer(), AddressProbe::Answer::kNotYet);
}

TEST(AddressProbe, may_go_before_it_has_an_answer) {
  for (int i = 0; i < 20; ++i) {
    AddressProbe probe;
    if (i % 2 == 0) probe.start(socket_address("127.0.0.1", 0), socket_address("192.0.2.1", 7711));
  }
}

}  // namespace
}  // namespace cenote::fabric
