// Goal: nobody without a certificate of the cluster's authority gets in, a person's certificate cannot act as a daemon, unusable
// certificate files are refused with a remedy, and a taken port is refused by number.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "certificates.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/server.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

using testing::HasSubstr;

// What everybody may call by its role: Models is for daemons only here, as its handler says; Cluster is for everybody.
class Service final : public v1::Controller::Service {
 public:
  grpc::Status Cluster(grpc::ServerContext*, const v1::Empty*, v1::ClusterReply* reply) override {
    reply->set_cluster("open");
    return grpc::Status::OK;
  }
  grpc::Status Models(grpc::ServerContext* context, const v1::ModelsRequest*, v1::ModelsReply*) override {
    return to_grpc(require_node(*context, "list members"));
  }
};

grpc::Status call_cluster(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto stub = v1::Controller::NewStub(open_channel(address, credentials));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::ClusterReply reply;
  return stub->Cluster(&context, v1::Empty(), &reply);
}

grpc::Status call_models(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto stub = v1::Controller::NewStub(open_channel(address, credentials));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::ModelsReply reply;
  return stub->Models(&context, v1::ModelsRequest(), &reply);
}

TEST(Security, a_client_without_a_certificate_is_refused_and_one_with_it_is_served) {
  TestCertificates ours;
  const Identity node = *load_node_identity(ours.directory());
  const Identity client = *load_client_identity(ours.directory());
  Service service;
  const auto server = *Server::start({}, server_credentials(node), {&service});
  EXPECT_TRUE(call_cluster(server->address(), channel_credentials(client)).ok());
  EXPECT_EQ(call_cluster(server->address(), channel_credentials({.authority = client.authority})).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(call_cluster(server->address(), grpc::InsecureChannelCredentials()).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Security, certificates_of_another_cluster_are_refused_on_both_sides) {
  TestCertificates ours, theirs;
  const Identity node = *load_node_identity(ours.directory());
  Identity stranger = *load_client_identity(theirs.directory());
  Service service;
  const auto server = *Server::start({}, server_credentials(node), {&service});
  EXPECT_EQ(call_cluster(server->address(), channel_credentials(stranger)).error_code(), grpc::StatusCode::UNAVAILABLE);
  stranger.authority = node.authority;  // Trusts our server, but is not one of ours.
  EXPECT_EQ(call_cluster(server->address(), channel_credentials(stranger)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Security, a_persons_certificate_cannot_pose_as_a_server) {
  TestCertificates ours;
  const Identity client = *load_client_identity(ours.directory());
  Service service;
  const auto server = *Server::start({}, server_credentials(client), {&service});
  EXPECT_EQ(call_cluster(server->address(), channel_credentials(client)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Security, what_only_daemons_may_do_is_refused_to_people) {
  TestCertificates ours;
  const Identity node = *load_node_identity(ours.directory());
  const Identity client = *load_client_identity(ours.directory());
  Service service;
  const auto server = *Server::start({}, server_credentials(node), {&service});
  EXPECT_TRUE(call_models(server->address(), channel_credentials(node)).ok());
  const grpc::Status refused = call_models(server->address(), channel_credentials(client));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.error_message(), HasSubstr("list members"));
}

TEST(Security, a_unix_socket_needs_no_certificate_and_counts_as_a_daemon) {
  TestCertificates directory;
  Service service;
  const auto server = *Server::start({.unix_path = directory.directory() + "/a.sock"}, unix_server_credentials(), {&service});
  EXPECT_TRUE(call_models(server->address(), unix_channel_credentials()).ok());
}

TEST(Security, missing_expired_and_mismatched_files_are_refused_with_a_remedy) {
  const auto missing = load_node_identity("/nowhere/certificates");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere/certificates/ca.crt"));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("cenote up"));

  TestCertificates expired(-60);
  EXPECT_THAT(std::string(load_node_identity(expired.directory()).status().message()), HasSubstr("node.crt: expired"));

  TestCertificates ours, theirs;
  std::filesystem::copy_file(theirs.directory() + "/node.key", ours.directory() + "/node.key",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(std::string(load_node_identity(ours.directory()).status().message()), HasSubstr("does not belong to"));
  std::filesystem::copy_file(theirs.directory() + "/node.crt", ours.directory() + "/node.crt",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(std::string(load_node_identity(ours.directory()).status().message()), HasSubstr("is not signed by"));
  std::ofstream(ours.directory() + "/client.crt") << "not a certificate";
  EXPECT_THAT(std::string(load_client_identity(ours.directory()).status().message()), HasSubstr("no PEM certificate"));
}

TEST(Security, a_taken_port_is_refused_by_number_and_a_foreign_host_by_name) {
  TestCertificates ours;
  const Identity node = *load_node_identity(ours.directory());
  Service first, second;
  const auto server = *Server::start({}, server_credentials(node), {&first});
  const auto taken = Server::start({.port = server->port()}, server_credentials(node), {&second});
  EXPECT_EQ(taken.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(taken.status().message()), HasSubstr("port " + std::to_string(server->port())));
  const auto foreign = Server::start({.host = "192.0.2.1"}, server_credentials(node), {&second});
  EXPECT_EQ(foreign.status().code(), absl::StatusCode::kInvalidArgument) << foreign.status();
}

TEST(Addresses, are_formatted_and_parsed_with_ipv6) {
  EXPECT_EQ(format_address("127.0.0.1", 7700), "127.0.0.1:7700");
  EXPECT_EQ(format_address("::1", 7700), "[::1]:7700");
  EXPECT_EQ(parse_address("[::1]:7700")->host, "::1");
  EXPECT_EQ(parse_address("host:1")->port, 1);
  for (const char* bad : {"", "host", ":7700", "host:", "host:65536", "host:x", "[]:1"}) {
    EXPECT_EQ(parse_address(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace cenote::wire
