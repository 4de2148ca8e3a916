// Goal: a daemon's link to its controller reports at each connection, hands on directives, and comes back by itself when the
// controller was away. Method: real gRPC on loopback; the controller's server is stopped and started on the same port.
#include "wire/controller_link.h"

#include <gtest/gtest.h>

#include "certificates.h"
#include "join_service.h"
#include "wire/convert_member.h"
#include "wire/server.h"

namespace cenote::wire {
namespace {

class ControllerLinkTest : public testing::Test {
 protected:
  void serve(uint16_t port) {
    service_ = std::make_unique<JoinService>();
    service_->on_report = [service = service_.get()](const v1::MemberReport&) {
      v1::Directive beat;
      beat.mutable_heartbeat();
      (void)service->streams.back()->send(std::move(beat));
    };
    server_ = *Server::start({.port = port}, server_credentials(node_), {service_.get()});
  }

  TestCertificates certificates_;
  Identity node_ = *load_node_identity(certificates_.directory());
  std::unique_ptr<JoinService> service_;
  std::unique_ptr<Server> server_;
  Condition condition_;
  int connected_ = 0;
  int disconnected_ = 0;
  int beats_ = 0;
};

TEST_F(ControllerLinkTest, it_reports_at_each_connection_and_returns_after_the_controller_was_away) {
  serve(0);
  const uint16_t port = server_->port();
  std::unique_ptr<ControllerLink> link;
  std::mutex link_mutex;  // on_connected may come before open() has returned.
  const auto report = [&] {
    const std::lock_guard lock(link_mutex);
    link->report({.name = "router-0", .role = Role::kRouter, .routed = 5});
  };
  {
    const std::lock_guard lock(link_mutex);
    link = ControllerLink::open(
        {.address = server_->address(), .identity = node_},
        {.on_connected = [&] { report(); condition_.change([&] { ++connected_; }); },
         .on_directive = [&](const Directive& d) { condition_.change([&] { beats_ += std::holds_alternative<Heartbeat>(d); }); },
         .on_disconnected = [&](const absl::Status&) { condition_.change([&] { ++disconnected_; }); }});
  }
  ASSERT_TRUE(condition_.wait([&] { return beats_ == 1; }));
  EXPECT_TRUE(link->connected());
  ASSERT_TRUE(link->report_increment({.name = "router-0", .role = Role::kRouter, .routed = 6}).ok());
  ASSERT_TRUE(condition_.wait([&] { return beats_ == 2; }));
  EXPECT_EQ(service_->reports[1].routed(), 6u);

  server_->stop(Duration::from_ms(10));
  ASSERT_TRUE(condition_.wait([&] { return disconnected_ >= 1; }));
  EXPECT_FALSE(link->connected());
  serve(port);
  ASSERT_TRUE(condition_.wait([&] { return beats_ == 3; }));
  EXPECT_GE(connected_, 2);
  link.reset();
  server_->stop(Duration::from_ms(10));
}

TEST_F(ControllerLinkTest, destroying_a_link_that_never_connected_does_not_wait) {
  const auto link = ControllerLink::open({.address = "127.0.0.1:1", .identity = node_},
                                         {.on_connected = [] {}, .on_directive = [](Directive) {},
                                          .on_disconnected = [&](const absl::Status&) { condition_.change([&] { ++disconnected_; }); }});
  ASSERT_TRUE(condition_.wait([&] { return disconnected_ > 1; }));
  EXPECT_EQ(link->report_increment({}).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace cenote::wire
