// Goal: every method of the protocol says who may call it; a role is read from a certificate only as the authority wrote it; what a role
// may not call is refused before a handler hears of it, with who one is, what it takes and how to get it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "certificates.h"
#include "wire/caller.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/gate.h"
#include "wire/permissions.h"
#include "wire/server.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Caller caller_with(CallerRole role) { return {.role = role, .subject = "alice", .tenant = "vision"}; }

TEST(Permissions, every_method_of_the_protocol_says_who_may_call_it_and_no_entry_is_left_over) {
  std::set<std::string> methods;
  const google::protobuf::FileDescriptor* file = v1::Tensor::descriptor()->file();
  for (int i = 0; i < file->service_count(); ++i) {
    for (int j = 0; j < file->service(i)->method_count(); ++j) {
      const std::string path = "/" + file->service(i)->full_name() + "/" + file->service(i)->method(j)->name();
      methods.insert(path);
      EXPECT_NE(find_permission(path), nullptr) << path << ": give it a line in source/wire/permissions.cc";
    }
  }
  EXPECT_EQ(methods.size(), permissions().size());
  for (const Permission& permission : permissions()) {
    EXPECT_TRUE(methods.contains("/cenote.v1." + std::string(permission.method))) << permission.method;
    EXPECT_FALSE(permission.roles.empty()) << permission.method;
  }
}

TEST(Permissions, a_client_may_look_and_ask_and_nothing_else) {
  const std::set<std::string> allowed = {"Inference/Session", "Memory/GrantRead", "Controller/Models", "Controller/Cluster"};
  for (const Permission& permission : permissions()) {
    const absl::Status status = permit("/cenote.v1." + std::string(permission.method), caller_with(CallerRole::kClient));
    EXPECT_EQ(status.ok(), allowed.contains(std::string(permission.method))) << permission.method;
  }
}

TEST(Permissions, only_nodes_join_and_only_operators_drain_and_evict) {
  for (const CallerRole role : {CallerRole::kNode, CallerRole::kOperator, CallerRole::kDeployer, CallerRole::kClient}) {
    EXPECT_EQ(permit("/cenote.v1.Controller/Join", caller_with(role)).ok(), role == CallerRole::kNode);
    EXPECT_EQ(permit("/cenote.v1.Agent/Attach", caller_with(role)).ok(), role == CallerRole::kNode);
    EXPECT_EQ(permit("/cenote.v1.Controller/Drain", caller_with(role)).ok(), role == CallerRole::kOperator);
    EXPECT_EQ(permit("/cenote.v1.Controller/Evict", caller_with(role)).ok(), role == CallerRole::kOperator);
    EXPECT_EQ(permit("/cenote.v1.Controller/CommitDeploy", caller_with(role)).ok(), role == CallerRole::kOperator || role == CallerRole::kDeployer);
  }
}

TEST(Permissions, a_refusal_says_who_one_is_what_it_takes_and_how_to_get_it) {
  const absl::Status status = permit("/cenote.v1.Controller/BeginDeploy", caller_with(CallerRole::kClient));
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("alice (client) may not deploy models"), HasSubstr("operator or deployer"),
                                                   HasSubstr("cenote certificates issue NAME --role deployer --tenant TENANT")));
}

TEST(Permissions, unknown_methods_are_refused_to_everybody) {
  for (const char* path : {"", "/", "/cenote.v1.Controller", "/cenote.v1.Controller/", "/cenote.v1.Controller/Drain/", "/other.Controller/Drain", "Controller/Drain"}) {
    EXPECT_EQ(permit(path, caller_with(CallerRole::kOperator)).code(), absl::StatusCode::kUnimplemented) << path;
  }
}

TEST(RoleUri, is_understood_in_its_four_forms) {
  EXPECT_EQ(parse_role_uri("cenote://lab/role/node")->role, CallerRole::kNode);
  EXPECT_EQ(parse_role_uri("cenote://lab/role/operator")->role, CallerRole::kOperator);
  const Caller deployer = *parse_role_uri("cenote://lab-1/role/deployer/tenant/vision.eu");
  EXPECT_EQ(deployer.role, CallerRole::kDeployer);
  EXPECT_EQ(deployer.tenant, "vision.eu");
  EXPECT_EQ(deployer.cluster, "lab-1");
  EXPECT_EQ(parse_role_uri("cenote://lab/role/client")->tenant, "default");
  EXPECT_EQ(parse_role_uri("cenote://lab/role/client/tenant/a")->tenant, "a");
}

TEST(RoleUri, is_refused_in_any_other_form) {
  for (const char* bad : {"", "cenote://", "cenote:///role/node", "cenote://lab", "cenote://lab/role", "cenote://lab/role/", "cenote://lab/role/root",
                          "cenote://lab/role/Node", "cenote://lab/role/node/", "cenote://lab/role/node/tenant/a", "cenote://lab/role/operator/tenant/a",
                          "cenote://lab/role/deployer", "cenote://lab/role/deployer/tenant/", "cenote://lab/role/deployer/tenant/a b",
                          "cenote://lab/role/deployer/tenant/a/more", "cenote://lab/role/deployer/tenant/../x", "cenote://lab/rule/node",
                          "https://lab/role/node", "CENOTE://lab/role/node", "cenote://la%62/role/node"}) {
    EXPECT_EQ(parse_role_uri(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(parse_role_uri("cenote://lab/role/deployer/tenant/" + std::string(64, 'a')).ok());
  EXPECT_FALSE(parse_role_uri("cenote://lab/role/deployer/tenant/" + std::string(1 << 20, 'a')).ok());
  EXPECT_FALSE(parse_role_uri(std::string("cenote://lab/role/node\0", 23)).ok());
}

std::string pem_of(const TestCertificates& certificates, const std::string& name) {
  std::ifstream file(certificates.directory() + "/" + name + ".crt");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Certificates, tell_role_subject_serial_and_end) {
  TestCertificates made;
  made.issue("alice", "URI:cenote://test/role/deployer/tenant/vision");
  const Caller alice = *read_caller(pem_of(made, "alice"));
  EXPECT_EQ(alice.role, CallerRole::kDeployer);
  EXPECT_EQ(alice.subject, "alice");
  EXPECT_EQ(alice.tenant, "vision");
  EXPECT_FALSE(alice.serial.empty());
  EXPECT_NEAR(static_cast<double>(alice.expires_s), static_cast<double>(std::time(nullptr) + 3600), 60);
}

TEST(Certificates, without_a_role_are_nobodys_unless_a_daemons) {
  TestCertificates made;
  made.issue("old-node", "DNS:node.cenote");
  made.issue("old-client", "");
  made.issue("two", "URI:cenote://test/role/client,URI:cenote://test/role/operator");
  made.issue("other", "URI:spiffe://test/role/operator,DNS:operator.cenote");
  made.issue("liar", "DNS:node.cenote,URI:cenote://test/role/client");
  EXPECT_EQ(read_caller(pem_of(made, "old-node"))->role, CallerRole::kNode);
  EXPECT_EQ(read_caller(pem_of(made, "liar"))->role, CallerRole::kClient);
  for (const char* name : {"old-client", "two", "other"}) {
    const absl::Status status = read_caller(pem_of(made, name)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("cenote certificates issue")) << name;
  }
  EXPECT_FALSE(read_caller("not a certificate").ok());
}

// A server whose handlers count how often they were asked.
class Counting final : public v1::Controller::Service {
 public:
  std::atomic<int> drained{0};

 private:
  grpc::Status Cluster(grpc::ServerContext* context, const v1::Empty*, v1::ClusterReply* reply) override {
    reply->set_cluster(caller_of(*context)->subject);
    return grpc::Status::OK;
  }
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::Empty*) override {
    ++drained;
    return grpc::Status::OK;
  }
};

Identity person(TestCertificates& certificates, const std::string& name) {
  for (const char* end : {".crt", ".key"}) {
    std::filesystem::copy_file(certificates.directory() + "/" + name + end, certificates.directory() + "/client" + end,
                               std::filesystem::copy_options::overwrite_existing);
  }
  return *load_client_identity(certificates.directory());
}

grpc::Status drain(v1::Controller::Stub& stub) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::Empty reply;
  return stub.Drain(&context, v1::DrainRequest(), &reply);
}

std::unique_ptr<v1::Controller::Stub> stub_of(const Server& server, const Identity& identity) {
  return v1::Controller::NewStub(open_channel(server.address(), channel_credentials(identity)));
}

TEST(Gate, lets_through_what_the_role_may_and_refuses_the_rest_before_the_handler) {
  TestCertificates made;
  made.issue("bob", "URI:cenote://test/role/client");
  made.issue("olga", "URI:cenote://test/role/operator");
  made.issue("old", "");
  made.issue("stray", "URI:cenote://elsewhere/role/operator");
  Counting service;
  const auto server = *Server::start({}, server_credentials(*load_node_identity(made.directory())), {&service});
  const grpc::Status bob = drain(*stub_of(*server, person(made, "bob")));
  EXPECT_EQ(bob.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(bob.error_message(), AllOf(HasSubstr("bob (client)"), HasSubstr("drain members"), HasSubstr("--role operator")));
  EXPECT_EQ(drain(*stub_of(*server, person(made, "old"))).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const grpc::Status stray = drain(*stub_of(*server, person(made, "stray")));
  EXPECT_EQ(stray.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(stray.error_message(), HasSubstr("cluster 'elsewhere', this is 'test'"));
  EXPECT_EQ(service.drained, 0);
  const auto stub = stub_of(*server, person(made, "olga"));
  EXPECT_TRUE(drain(*stub).ok());
  EXPECT_EQ(service.drained, 1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::ClusterReply reply;
  ASSERT_TRUE(stub->Cluster(&context, v1::Empty(), &reply).ok());
  EXPECT_EQ(reply.cluster(), "olga");
}

TEST(Gate, refuses_a_certificate_revoked_while_its_connection_is_open) {
  TestCertificates made;
  made.issue("olga", "URI:cenote://test/role/operator");
  Counting service;
  const auto server = *Server::start({}, server_credentials(*load_node_identity(made.directory())), {&service});
  const auto stub = stub_of(*server, person(made, "olga"));
  ASSERT_TRUE(drain(*stub).ok());
  std::ofstream(made.directory() + "/revoked.txt") << "# nobody\n00" << read_caller(pem_of(made, "olga"))->serial << "  # left\n";
  grpc::Status status;
  for (int tries = 0; tries < 200 && status.ok(); ++tries) {
    status = drain(*stub);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("revoked"));
}

TEST(Gate, refuses_a_certificate_that_lapsed_after_it_was_shown) {
  RevokedCertificates none("");
  Caller caller = caller_with(CallerRole::kOperator);
  caller.expires_s = 1'000;
  EXPECT_TRUE(check_caller(caller, "", 1'000, none).ok());
  const absl::Status status = check_caller(caller, "", 1'001, none);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("1970-01-01T00:16:40"), HasSubstr("cenote certificates")));
}

TEST(Revoked, lists_serials_with_comments_and_leaves_out_what_is_none) {
  EXPECT_EQ(parse_revoked("00aB  # alice\n\n# comment\nnot hex\n 12 \r\nff"), (std::set<std::string>{"ab", "12", "ff"}));
}

}  // namespace
}  // namespace cenote::wire
