// Goal: requests are answered through real routers whatever dies: an executor, a router; more than there is room for is refused, and
// large payloads go around the router. Method: the router's role in this process, over gRPC with mutual TLS on loopback, between a
// controller that only hands out a view, executors that follow a script, and the real client.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/status.h"
#include "bin/roles.h"
#include "certificates.h"
#include "client/client.h"
#include "join_service.h"
#include "wire/convert_member.h"
#include "wire/inference_service.h"
#include "wire/server.h"

namespace cenote {
namespace {

constexpr Duration kTimeout = Duration::from_seconds(60);

Digest digest(uint8_t n) {
  Digest d;
  d.bytes.fill(n);
  return d;
}

// Answers as `script` says; what it returns nullopt for is held for ever.
class ScriptedExecutor {
 public:
  using Script = std::function<std::optional<InferReply>(const InferRequest&)>;
  ScriptedExecutor(std::string name, const wire::Identity& identity, uint32_t credits, Script script)
      : name_(std::move(name)), script_(std::move(script)) {
    service_ = wire::InferenceService::create(
        {.opened = [this, credits](uint64_t s) { service_->send(s, wire::Welcome{.incarnation = 1, .name = name_, .credits = credits}); },
         .arrived = [this](uint64_t s, wire::InferUp up) { arrived(s, std::move(up)); },
         .closed = [](uint64_t) {}});
    server_ = *wire::Server::start({.message_bytes_max = wire::kPayloadMessageBytesMax}, wire::server_credentials(identity), {service_->service()});
    address_ = server_->address();
  }
  ~ScriptedExecutor() { die(); }
  void die() {
    if (server_ != nullptr) server_->stop(Duration::from_ms(1));
    server_.reset();
  }
  ExecutorReport report() const { return {.name = name_, .device = "host:0", .address = address_, .incarnation = 1}; }

  wire::Condition condition;
  std::vector<InferRequest> requests;  // Under the condition.
  std::vector<wire::ReserveSlot> reserved;

 private:
  void arrived(uint64_t session, wire::InferUp up) {
    if (auto* reserve = std::get_if<wire::ReserveSlot>(&up)) condition.change([&] { reserved.push_back(*reserve); });
    auto* request = std::get_if<InferRequest>(&up);
    if (request == nullptr) return;
    std::optional<InferReply> reply = script_(*request);
    const RequestId id = request->id;
    condition.change([&] { requests.push_back(std::move(*request)); });
    if (!reply) return;
    reply->id = id;
    reply->executor = name_;
    service_->send(session, *std::move(reply));
  }

  const std::string name_;
  const Script script_;
  std::string address_;
  std::unique_ptr<wire::InferenceService> service_;
  std::unique_ptr<wire::Server> server_;
};

class RunningRouter {
 public:
  RunningRouter(const std::string& name, uint16_t controller_port, const std::string& state, uint32_t queue_max) {
    context_.name = name;
    context_.state_directory = state;
    context_.settings.file = "test";
    context_.settings.routers.push_back({.name = name, .host = "127.0.0.1", .port = 0, .queue_max = queue_max, .outstanding_max = 64,
                                         .deadline = kTimeout, .retry_max = 3});
    context_.settings.controller = {.host = "127.0.0.1", .port = controller_port, .heartbeat_interval = Duration::from_ms(50),
                                    .member_timeout = Duration::from_seconds(2)};
    context_.settings.drain_timeout = Duration::from_ms(0);  // Stops at once, as if killed, but for its closed sockets.
    context_.settings.payload_bytes_max = kPayloadBytesMax;
    context_.settings.silence_max = Duration::from_ms(120);
    context_.stop_fd = eventfd(0, EFD_CLOEXEC);
    thread_ = std::thread([this] { status_ = run_router(context_); });
  }
  ~RunningRouter() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    CENOTE_CHECK(write(context_.stop_fd, &one, sizeof one) == sizeof one);
    thread_.join();
    close(context_.stop_fd);
    EXPECT_TRUE(status_.ok()) << status_;
  }

 private:
  RoleContext context_;
  absl::Status status_;
  std::thread thread_;
};

class RouterRoleTest : public testing::Test {
 protected:
  RouterRoleTest() {
    std::filesystem::create_directory_symlink(certificates_.directory(), certificates_.directory() + "/certificates");
    controller_.on_report = [this](const v1::MemberReport&) {
      v1::Directive directive;
      wire::to_proto(Directive(view_), &directive);
      controller_.condition.change([&] {
        for (const auto& stream : controller_.streams) (void)stream->send_latest(0, directive);
      });
    };
    controller_server_ = *wire::Server::start({}, wire::server_credentials(node_), {&controller_});
    view_ = {.version = 1, .tags = {{"echo", "latest", digest(1)}}, .revisions = {digest(1)}, .revision_names = {{digest(1), "echo"}}};
  }
  ~RouterRoleTest() override {
    client_.reset();
    routers_.clear();
    executors_.clear();
    controller_server_->stop(Duration::from_ms(1));
  }

  ScriptedExecutor& add_executor(ScriptedExecutor::Script script, uint32_t credits = 4) {
    executors_.push_back(std::make_unique<ScriptedExecutor>(str_cat("e", executors_.size()), node_, credits, std::move(script)));
    view_.executors.push_back(executors_.back()->report());
    return *executors_.back();
  }
  void start(size_t routers, uint32_t queue_max = 16) {
    for (size_t i = 0; i < routers; ++i) {
      routers_.push_back(std::make_unique<RunningRouter>(str_cat("router-", i), controller_server_->port(), certificates_.directory(), queue_max));
    }
    std::map<std::string, std::string> addresses;
    ASSERT_TRUE(controller_.condition.wait([&] {
      for (const v1::MemberReport& report : controller_.reports) addresses[report.name()] = report.address();
      return addresses.size() == routers;
    }));
    ClientOptions options{.identity = *wire::load_client_identity(certificates_.directory())};
    for (const auto& [name, address] : addresses) options.routers.push_back(address);
    client_ = Client::open(std::move(options));
  }
  static InferRequest request(size_t bytes) {
    InferRequest out{.model = "echo"};
    out.inputs.push_back({.name = "x", .dtype = DType::kU8, .shape = {static_cast<int64_t>(bytes)}, .bytes = std::string(bytes, 'x')});
    return out;
  }
  static std::optional<InferReply> echo(const InferRequest& request) { return InferReply{.outputs = request.inputs, .revision = request.revision}; }

  wire::TestCertificates certificates_;
  const wire::Identity node_ = *wire::load_node_identity(certificates_.directory());
  ClusterView view_;
  wire::JoinService controller_;
  std::unique_ptr<wire::Server> controller_server_;
  std::vector<std::unique_ptr<ScriptedExecutor>> executors_;
  std::vector<std::unique_ptr<RunningRouter>> routers_;
  std::unique_ptr<Client> client_;
};

TEST_F(RouterRoleTest, a_request_reaches_an_executor_with_its_revision_and_the_reply_its_caller) {
  ScriptedExecutor& executor = add_executor(echo);
  start(1);
  const auto reply = client_->infer(request(100), kTimeout);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->outputs[0].bytes, std::string(100, 'x'));
  EXPECT_EQ(reply->executor, "e0");
  ASSERT_TRUE(executor.condition.wait([&] { return executor.requests.size() == 1; }));
  EXPECT_EQ(executor.requests[0].revision, digest(1));
  EXPECT_FALSE(executor.requests[0].by_ticket);
}

TEST_F(RouterRoleTest, an_executor_that_dies_with_a_request_costs_a_retry_not_the_request) {
  std::atomic<int> held{0};
  ScriptedExecutor* victim = nullptr;
  const auto hold_first = [&](const InferRequest& r) -> std::optional<InferReply> { return held++ == 0 ? std::nullopt : echo(r); };
  ScriptedExecutor& first = add_executor(hold_first);
  ScriptedExecutor& second = add_executor(hold_first);
  start(1);
  absl::StatusOr<InferReply> reply = absl::UnknownError("none yet");
  std::thread caller([&] { reply = client_->infer(request(100), kTimeout); });
  for (int wait = 0; wait < 4000 && victim == nullptr; ++wait) {
    for (ScriptedExecutor* executor : {&first, &second}) {
      executor->condition.change([&] {
        if (!executor->requests.empty()) victim = executor;
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_NE(victim, nullptr);
  victim->die();
  caller.join();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->executor, victim == &first ? "e1" : "e0");
}

TEST_F(RouterRoleTest, an_executor_whose_weights_fail_is_left_for_another) {
  add_executor([](const InferRequest&) { return InferReply{.status = absl::UnavailableError("no replica has block 1f")}; });
  add_executor(echo);
  start(1);
  for (int i = 0; i < 8; ++i) {
    const auto reply = client_->infer(request(10), kTimeout);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->executor, "e1");
  }
}

TEST_F(RouterRoleTest, a_router_that_ends_with_a_request_leaves_it_to_the_other) {
  std::atomic<int> arrivals{0};
  ScriptedExecutor& executor = add_executor([&](const InferRequest& r) -> std::optional<InferReply> { return arrivals++ == 0 ? std::nullopt : echo(r); });
  start(2);
  absl::StatusOr<InferReply> reply = absl::UnknownError("none yet");
  std::thread caller([&] { reply = client_->infer(request(100), kTimeout); });
  ASSERT_TRUE(executor.condition.wait([&] { return executor.requests.size() == 1; }));
  std::string holder;  // As its heartbeat says.
  ASSERT_TRUE(controller_.condition.wait([&] {
    for (const v1::MemberReport& report : controller_.reports) {
      if (report.outstanding() == 1) holder = report.name();
    }
    return !holder.empty();
  }));
  routers_[holder == "router-0" ? 0 : 1]->stop();
  caller.join();
  ASSERT_TRUE(reply.ok()) << reply.status();
  executor.condition.change([&] {
    ASSERT_EQ(executor.requests.size(), 2u);
    EXPECT_EQ(executor.requests[0].id, executor.requests[1].id);
  });
}

TEST_F(RouterRoleTest, requests_beyond_the_queue_are_refused_with_its_limit) {
  add_executor(echo, 0);  // No credits: everything waits.
  start(1, 2);
  wire::Condition condition;
  std::vector<absl::StatusOr<InferReply>> replies;
  for (int i = 0; i < 3; ++i) {
    client_->infer(request(10), kTimeout, [&](absl::StatusOr<InferReply> r) { condition.change([&] { replies.push_back(std::move(r)); }); });
  }
  ASSERT_TRUE(condition.wait([&] { return replies.size() == 1; }));
  EXPECT_EQ(replies[0].status().code(), absl::StatusCode::kResourceExhausted) << replies[0].status();
  client_.reset();  // The other two end as cancelled.
  EXPECT_EQ(replies.size(), 3u);
}

TEST_F(RouterRoleTest, an_unknown_model_is_not_found_and_near_names_are_named) {
  add_executor(echo);
  start(1);
  InferRequest wrong = request(10);
  wrong.model = "ecko";
  const auto reply = client_->infer(std::move(wrong), kTimeout);
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(reply.status().message().find("did you mean 'echo'"), std::string::npos) << reply.status();
}

TEST_F(RouterRoleTest, a_large_payload_goes_straight_to_the_executor_by_ticket) {
  ScriptedExecutor& executor = add_executor(echo);
  start(1);
  const size_t bytes = 4 << 20;  // More than a router takes in one message.
  const auto reply = client_->infer(request(bytes), kTimeout);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->outputs[0].bytes.size(), bytes);
  executor.condition.change([&] {
    ASSERT_EQ(executor.requests.size(), 1u);
    EXPECT_TRUE(executor.requests[0].by_ticket);
    ASSERT_EQ(executor.reserved.size(), 1u);
    EXPECT_EQ(executor.reserved[0].id, executor.requests[0].id);
  });
}

TEST_F(RouterRoleTest, a_model_whose_reply_is_said_to_be_large_is_asked_by_ticket_from_the_first) {
  ScriptedExecutor& executor = add_executor(echo);
  start(1);
  client_->expect_reply(request(100).model, 1 << 20);
  ASSERT_TRUE(client_->infer(request(100), kTimeout).ok());
  executor.condition.change([&] { EXPECT_TRUE(executor.requests.back().by_ticket); });
}

TEST_F(RouterRoleTest, a_model_whose_last_reply_was_large_is_asked_by_ticket) {
  ScriptedExecutor& executor = add_executor([](const InferRequest& request) {
    return InferReply{.outputs = {{"y", DType::kU8, {1 << 20}, std::string(1 << 20, 'y')}}, .revision = request.revision};
  });
  start(1);
  for (const bool by_ticket : {false, true}) {
    const auto reply = client_->infer(request(100), kTimeout);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->outputs[0].bytes.size(), 1u << 20);
    executor.condition.change([&] { EXPECT_EQ(executor.requests.back().by_ticket, by_ticket); });
  }
}

}  // namespace
}  // namespace cenote
