// Goal: a transport that only connects binds to the interface that reaches its peer, which need not be loopback.
#include "fabric/local_address.h"

#include <gtest/gtest.h>

namespace cenote::fabric {
namespace {

TEST(LocalAddress, a_peer_on_loopback_is_reached_from_loopback) {
  const auto address = local_address_towards("127.0.0.1:7710");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "127.0.0.1");
}

TEST(LocalAddress, brackets_of_a_v6_address_are_taken_off) {
  const auto address = local_address_towards("[::1]:7710");
  if (!address.ok()) {
    GTEST_SKIP() << "no IPv6 here: " << address.status();
  }
  EXPECT_EQ(*address, "::1");
}

TEST(LocalAddress, what_is_no_address_is_refused_with_its_text) {
  for (const char* text : {"", "host", ":7710", "host:"}) {
    const auto address = local_address_towards(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  const auto unknown = local_address_towards("no-such-host.invalid:7710");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(unknown.status().message().find("no-such-host.invalid"), std::string::npos);
}

}  // namespace
}  // namespace cenote::fabric
