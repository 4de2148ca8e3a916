// Goal: certificates are replaced under a running server and an open channel: what is open goes on, what connects afterwards shows the
// new certificate, and while one authority takes over from another nobody is shut out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "certificates.h"
#include "wire/caller.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/server.h"

namespace cenote::wire {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

// Answers with the serial that the caller showed.
class Service final : public v1::Controller::Service {
  grpc::Status Cluster(grpc::ServerContext* context, const v1::Empty*, v1::ClusterReply* reply) override {
    reply->set_cluster(caller_of(*context)->serial);
    return grpc::Status::OK;
  }
};

struct Seen {
  grpc::Status status;
  std::string caller;  // Serials.
  std::string server;
};

Seen ask(v1::Controller::Stub& stub) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  v1::ClusterReply reply;
  Seen seen{.status = stub.Cluster(&context, v1::Empty(), &reply)};
  seen.caller = reply.cluster();
  if (seen.status.ok()) seen.server = caller_of(*context.auth_context())->serial;
  return seen;
}

std::unique_ptr<v1::Controller::Stub> connect(const std::string& address, const Identity& identity) {
  return v1::Controller::NewStub(open_channel(address, channel_credentials(identity)));
}

// Until a new connection of the same identity shows another serial on both sides. Refusals in between are noted.
Seen wait_for_new(const std::string& address, const Identity& identity, const Seen& old, int& refused) {
  Seen seen;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    seen = ask(*connect(address, identity));
    if (!seen.status.ok()) ++refused;
  } while ((!seen.status.ok() || seen.caller == old.caller || seen.server == old.server) && std::chrono::steady_clock::now() < end);
  return seen;
}

TEST(Rotation, new_connections_show_new_certificates_and_open_ones_go_on) {
  TestCertificates made;
  Service service;
  const auto server = *Server::start({}, server_credentials(*load_node_identity(made.directory())), {&service});
  const Identity client = *load_client_identity(made.directory());
  const auto open = connect(server->address(), client);
  const Seen before = ask(*open);
  ASSERT_TRUE(before.status.ok()) << before.status.error_message();
  made.issue("node", "DNS:node.cenote,URI:cenote://test/role/node");
  made.issue("client", "URI:cenote://test/role/operator");
  int refused = 0;
  const Seen after = wait_for_new(server->address(), client, before, refused);
  ASSERT_TRUE(after.status.ok()) << after.status.error_message();
  EXPECT_NE(after.server, before.server);
  EXPECT_NE(after.caller, before.caller);
  const Seen still = ask(*open);
  EXPECT_TRUE(still.status.ok());
  EXPECT_EQ(still.caller, before.caller);
  EXPECT_EQ(still.server, before.server);
}

TEST(Rotation, one_authority_takes_over_from_another_while_both_are_trusted) {
  TestCertificates made;
  Service service;
  const auto server = *Server::start({}, server_credentials(*load_node_identity(made.directory())), {&service});
  const Identity client = *load_client_identity(made.directory());
  const Seen before = ask(*connect(server->address(), client));
  ASSERT_TRUE(before.status.ok());
  made.roll_over();  // Both are in ca.crt; what was issued is the old one's.
  std::this_thread::sleep_for(std::chrono::nanoseconds(kRotationDelay.ns));
  made.issue("client", "URI:cenote://test/role/operator");
  EXPECT_TRUE(load_client_identity(made.directory()).ok());  // Signed by the second of the file.
  made.issue("node", "DNS:node.cenote,URI:cenote://test/role/node");
  int refused = 0;
  const Seen after = wait_for_new(server->address(), client, before, refused);
  ASSERT_TRUE(after.status.ok()) << after.status.error_message();
  EXPECT_EQ(refused, 0);
}

}  // namespace
}  // namespace cenote::wire
