// Goal: libfabric's errors and strangers' addresses become messages that say what to do, before anything misreads them.
#include "fabric/libfabric/errors.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <rdma/fabric.h>
#include <rdma/fi_errno.h>

#include <cstring>
#include <string>

namespace cenote::fabric {
namespace {

std::string ipv4(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return {reinterpret_cast<const char*>(&address), sizeof address};
}

bool says(const absl::Status& status, const std::string& text) { return std::string(status.message()).find(text) != std::string::npos; }

TEST(RegistrationError, names_size_limit_and_remedy_when_memory_cannot_be_pinned) {
  for (const int error : {FI_ENOMEM, FI_EAGAIN, FI_EPERM}) {
    const absl::Status status = registration_error(-error, 3ull << 30, 8ull << 20, "verbs;ofi_rxm");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(says(status, "3.0 GiB") && says(status, "8.0 MiB") && says(status, "ulimit -l") && says(status, "verbs")) << status;
  }
}

TEST(RegistrationError, does_not_blame_a_limit_that_is_not_there) {
  const absl::Status status = registration_error(-FI_ENOMEM, 1 << 20, UINT64_MAX, "verbs;ofi_rxm");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(says(status, "ulimit")) << status;
}

TEST(RegistrationError, keeps_other_errors_as_they_are) {
  EXPECT_EQ(registration_error(-FI_EINVAL, 1, 8 << 20, "tcp;ofi_rxm").code(), absl::StatusCode::kInvalidArgument);
}

TEST(FabricError, takes_either_sign_and_names_the_number) {
  EXPECT_EQ(fabric_error(-FI_EADDRINUSE, "x"), fabric_error(FI_EADDRINUSE, "x"));
  EXPECT_EQ(fabric_error(-FI_EADDRINUSE, "x").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(fabric_error(-FI_ECANCELED, "x").code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(says(fabric_error(-FI_ECANCELED, "reading"), "reading") && says(fabric_error(-FI_ECANCELED, "x"), "125"));
}

TEST(CheckAddress, accepts_socket_addresses_of_the_right_family_and_length_only) {
  const std::string tcp = "tcp;ofi_rxm";
  EXPECT_TRUE(check_address({tcp, ipv4(80)}, tcp, FI_SOCKADDR_IN, 16).ok());
  EXPECT_TRUE(check_address({tcp, ipv4(80)}, tcp, FI_SOCKADDR, 16).ok());
  EXPECT_FALSE(check_address({tcp, ipv4(80)}, tcp, FI_SOCKADDR_IN6, 28).ok());
  EXPECT_FALSE(check_address({tcp, ipv4(80)}, "shm", FI_SOCKADDR_IN, 16).ok());
  for (size_t size = 0; size < 16; ++size) {
    EXPECT_FALSE(check_address({tcp, ipv4(80).substr(0, size)}, tcp, FI_SOCKADDR_IN, 16).ok()) << size;
  }
  std::string unix_family = ipv4(80);
  unix_family[0] = 1;
  EXPECT_FALSE(check_address({tcp, unix_family}, tcp, FI_SOCKADDR_IN, 16).ok());
  EXPECT_FALSE(check_address({tcp, ipv4(80) + std::string(12, '\0')}, tcp, FI_SOCKADDR, 16).ok());
}

TEST(CheckAddress, text_must_end_where_it_says) {
  EXPECT_TRUE(check_address({"shm", std::string("fi_shm://1\0", 11)}, "shm", FI_ADDR_STR, 11).ok());
  EXPECT_FALSE(check_address({"shm", "fi_shm://1"}, "shm", FI_ADDR_STR, 11).ok());
  EXPECT_FALSE(check_address({"shm", std::string("fi\0shm\0", 7)}, "shm", FI_ADDR_STR, 11).ok());
}

TEST(CheckAddress, unknown_formats_must_be_as_long_as_our_own) {
  EXPECT_TRUE(check_address({"efa", std::string(32, 'x')}, "efa", FI_ADDR_EFA, 32).ok());
  EXPECT_FALSE(check_address({"efa", std::string(31, 'x')}, "efa", FI_ADDR_EFA, 32).ok());
  EXPECT_FALSE(check_address({"efa", std::string(1 << 20, 'x')}, "efa", FI_ADDR_EFA, 1 << 20).ok());
}

TEST(Describe, shows_socket_addresses_as_people_write_them_and_anything_else_safely) {
  EXPECT_EQ(describe({"tcp;ofi_rxm", ipv4(7711)}), "tcp;ofi_rxm 127.0.0.1:7711");
  EXPECT_EQ(describe({"loopback", "loopback:5"}), "loopback loopback:5");
  EXPECT_EQ(describe({"x", std::string("\x01\xff", 2)}), "x 01ff");
  EXPECT_LT(describe({std::string(100'000, '\n'), std::string(100'000, '\n')}).size(), 1000u);
}

}  // namespace
}  // namespace cenote::fabric
