// Goal: what a Session sends together arrives as few messages, whole and in order; a server's callers are bounded in number, and those who
// do not read in bytes, without harm to the others. Method: real gRPC over mutual TLS on loopback, one process.
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "certificates.h"
#include "join_service.h"
#include "wire/inference_service.h"
#include "wire/inference_session.h"
#include "wire/server.h"

namespace cenote::wire {
namespace {

class InferenceTest : public testing::Test {
 protected:
  static constexpr uint32_t kCredits = 3000;

  // A caller's end. One that is held does not read on, from its first reply.
  struct Caller {
    std::shared_ptr<InferenceSession> session;
    std::vector<RequestId> replies;
    std::vector<Duration> beats;
    bool welcomed = false, held = false;
    std::optional<absl::Status> closed;
  };

  ~InferenceTest() override {
    condition_.change([&] {
      for (auto& caller : callers_) caller->held = false;
    });
    for (auto& caller : callers_) caller->session->cancel();
    EXPECT_TRUE(condition_.wait([&] { return std::ranges::all_of(callers_, [](const auto& caller) { return caller->closed.has_value(); }); }));
    if (server_ != nullptr) server_->stop(Duration::from_seconds(1));
  }

  void serve(InferenceLimits limits = {}) {
    service_ = InferenceService::create({.opened = [this](uint64_t s) { service_->send(s, Welcome{.incarnation = 1, .name = "r", .credits = kCredits}); },
                                         .arrived = [this](uint64_t s, InferUp up) {
                                           condition_.change([&] { arrived_.emplace_back(s, std::get<InferRequest>(std::move(up))); });
                                         },
                                         .closed = [](uint64_t) {}},
                                        nullptr, std::move(limits));
    server_ = *Server::start({.message_bytes_max = kPayloadMessageBytesMax}, server_credentials(node_), {service_->service()});
  }
  Caller& call(bool held = false) {
    callers_.push_back(std::make_unique<Caller>());
    Caller& caller = *callers_.back();
    caller.held = held;
    caller.session = InferenceSession::create(server_->address(), node_);
    caller.session->start({.on_message =
                               [this, &caller](InferDown down) {
                                 const auto* reply = std::get_if<InferReply>(&down);
                                 const auto* beat = std::get_if<PeerBeat>(&down);
                                 condition_.change([&] {
                                   if (beat != nullptr) caller.beats.push_back(beat->next);
                                   caller.welcomed = true;
                                   if (reply != nullptr) caller.replies.push_back(reply->id);
                                 });
                                 if (reply != nullptr) (void)condition_.wait([&] { return !caller.held; });
                               },
                           .on_closed = [this, &caller](absl::Status why) { condition_.change([&] { caller.closed = std::move(why); }); }});
    EXPECT_TRUE(condition_.wait([&] { return caller.welcomed || caller.closed; }));
    return caller;
  }
  // The number by which the server knows a caller.
  uint64_t number_of(Caller& caller) {
    const size_t before = arrived_.size();
    EXPECT_TRUE(caller.session->send(InferRequest{.id = {1, 1}, .model = "m"}).ok());
    EXPECT_TRUE(condition_.wait([&] { return arrived_.size() > before; }));
    return arrived_.back().first;
  }
  static InferReply reply(uint64_t n, size_t bytes = 8) {
    return {.id = {2, n}, .outputs = {{.name = "y", .dtype = DType::kU8, .shape = {static_cast<int64_t>(bytes)}, .bytes = std::string(bytes, 'y')}}};
  }

  TestCertificates certificates_;
  const Identity node_ = *load_node_identity(certificates_.directory());
  Condition condition_;
  std::vector<std::pair<uint64_t, InferRequest>> arrived_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<Server> server_;
  std::vector<std::unique_ptr<Caller>> callers_;
};

TEST_F(InferenceTest, what_is_sent_together_arrives_in_order_both_ways_whatever_its_size) {
  serve();
  Caller& caller = call();
  constexpr uint64_t kCount = 500;
  caller.session->cork();
  for (uint64_t n = 0; n < kCount; ++n) {
    InferRequest request{.id = {1, n}, .model = "m"};
    if (n % 50 == 0) request.inputs.push_back({.name = "x", .dtype = DType::kU8, .shape = {100'000}, .bytes = std::string(100'000, 'x')});
    ASSERT_TRUE(caller.session->send(request).ok());
  }
  caller.session->uncork();
  ASSERT_TRUE(condition_.wait([&] { return arrived_.size() == kCount; }));
  service_->cork();
  for (uint64_t n = 0; n < kCount; ++n) {
    EXPECT_EQ(arrived_[n].second.id.low, n);
    service_->send(arrived_[n].first, reply(n, n % 50 == 0 ? 100'000 : 8));
  }
  service_->uncork();
  ASSERT_TRUE(condition_.wait([&] { return caller.replies.size() == kCount; }));
  for (uint64_t n = 0; n < kCount; ++n) EXPECT_EQ(caller.replies[n].low, n);
}

TEST_F(InferenceTest, a_close_while_corked_still_sends_what_waits) {
  serve();
  Caller& caller = call();
  caller.session->cork();
  ASSERT_TRUE(caller.session->send(InferRequest{.id = {1, 1}, .model = "m"}).ok());
  caller.session->close();
  caller.session->uncork();
  EXPECT_TRUE(condition_.wait([&] { return arrived_.size() == 1; }));
}

TEST_F(InferenceTest, what_a_peer_grants_may_wait_with_its_cancels_but_not_much_more) {
  serve();
  Caller& caller = call();
  caller.session->cork();
  for (uint64_t n = 0; n < kCredits; ++n) {
    ASSERT_TRUE(caller.session->send(InferRequest{.id = {1, n}, .model = "m"}).ok()) << n;
    ASSERT_TRUE(caller.session->send(CancelInfer{{1, n}}).ok()) << n;
  }
  absl::Status status;
  for (uint64_t n = 0; n < 2000 && status.ok(); ++n) status = caller.session->send(CancelInfer{{1, n}});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(InferenceTest, a_replys_own_beat_goes_out_before_it_whatever_periodic_ones_follow) {
  serve();
  Caller& caller = call();
  const uint64_t number = number_of(caller);
  service_->cork();
  service_->send(number, PeerBeat{Duration::from_ms(100)});
  service_->send(number, PeerBeat{Duration::from_ms(9'000), true});
  service_->send(number, reply(1));
  service_->send(number, PeerBeat{Duration::from_ms(200)});
  service_->uncork();
  ASSERT_TRUE(condition_.wait([&] { return caller.replies.size() == 1; }));
  EXPECT_EQ(caller.beats, (std::vector<Duration>{Duration::from_ms(200), Duration::from_ms(9'000)}));
}

TEST_F(InferenceTest, a_caller_who_reads_keeps_his_session_whatever_one_step_brings_him) {
  serve();
  Caller& caller = call();
  const uint64_t number = number_of(caller);
  service_->cork();
  for (uint64_t n = 0; n < 3; ++n) service_->send(number, reply(n, 64 << 20));
  service_->uncork();
  EXPECT_TRUE(condition_.wait([&] { return caller.replies.size() == 3 || caller.closed; }));
  EXPECT_FALSE(caller.closed) << *caller.closed;
}

// A stream of messages as they are on the wire, for what no InferenceSession sends or shows.
struct Raw {
  Raw(const std::string& address, const Identity& identity)
      : channel(open_channel(address, channel_credentials(identity), {.message_bytes_max = kPayloadMessageBytesMax})),
        stub(v1::Inference::NewStub(channel)),
        stream(ClientStream<v1::InferenceUp, v1::InferenceDown>::open(
            [this](grpc::ClientContext* context, auto* reactor) { stub->async()->Session(context, reactor); }, {.peer = "r"},
            {.on_message = [this](v1::InferenceDown&& down) { condition.change([&] { carried.push_back(1 + down.more_size()); }); },
             .on_closed = [this](absl::Status why) { condition.change([&] { closed = std::move(why); }); }})) {}
  ~Raw() {
    stream->cancel();
    EXPECT_TRUE(condition.wait([&] { return closed.has_value(); }));
  }

  Condition condition;
  std::vector<int> carried;
  std::optional<absl::Status> closed;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Inference::Stub> stub;
  std::shared_ptr<ClientStream<v1::InferenceUp, v1::InferenceDown>> stream;
};

TEST_F(InferenceTest, a_write_that_ends_while_corked_begins_no_other) {
  serve();
  Raw raw(server_->address(), node_);
  ASSERT_TRUE(raw.stream->send(to_proto(InferRequest{.id = {1, 1}, .model = "m"})).ok());
  ASSERT_TRUE(condition_.wait([&] { return arrived_.size() == 1; }));
  ASSERT_TRUE(raw.condition.wait([&] { return raw.carried.size() == 1; }));
  service_->send(arrived_[0].first, reply(1, 16 << 20));  // Being written while the next one comes.
  service_->cork();
  service_->send(arrived_[0].first, reply(2));
  ASSERT_TRUE(raw.condition.wait([&] { return raw.carried.size() == 2; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  service_->send(arrived_[0].first, reply(3));
  service_->uncork();
  const auto carried = [&] { return std::accumulate(raw.carried.begin(), raw.carried.end(), 0); };
  ASSERT_TRUE(raw.condition.wait([&] { return carried() == 4; }));
  EXPECT_EQ(raw.carried, (std::vector<int>{1, 1, 2}));
}

TEST_F(InferenceTest, a_caller_whose_session_was_ended_for_a_fault_is_heard_no_more) {
  serve();
  Raw raw(server_->address(), node_);
  ASSERT_TRUE(raw.stream->send(to_proto(InferRequest{.id = {1, 1}, .model = "m"})).ok());
  ASSERT_TRUE(condition_.wait([&] { return arrived_.size() == 1; }));
  service_->cork();
  service_->send(arrived_[0].first, reply(1));  // Waits, and the end behind it.
  ASSERT_TRUE(raw.stream->send(v1::InferenceUp()).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // Not together with the next one.
  ASSERT_TRUE(raw.stream->send(to_proto(InferRequest{.id = {1, 2}, .model = "m"})).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  service_->uncork();
  ASSERT_TRUE(raw.condition.wait([&] { return raw.closed.has_value(); }));
  EXPECT_EQ(raw.closed->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(arrived_.size(), 1u);
}

TEST_F(InferenceTest, small_messages_that_wait_travel_as_few) {
  serve();
  Raw raw(server_->address(), node_);
  ASSERT_TRUE(raw.stream->send(to_proto(InferRequest{.id = {1, 1}, .model = "m"})).ok());
  ASSERT_TRUE(condition_.wait([&] { return arrived_.size() == 1; }));
  ASSERT_TRUE(raw.condition.wait([&] { return raw.carried.size() == 1; }));
  service_->cork();
  for (uint64_t n = 0; n < 2 * kMergedMax + 1; ++n) service_->send(arrived_[0].first, reply(n));
  service_->send(arrived_[0].first, reply(1000, kMergedBytesMax));  // Too large to go with another.
  service_->uncork();
  const std::vector<int> wanted = {1, kMergedMax, kMergedMax, 1, 1};
  EXPECT_TRUE(raw.condition.wait([&] { return raw.carried.size() == wanted.size(); }));
  EXPECT_EQ(raw.carried, wanted);
}

TEST_F(InferenceTest, one_caller_more_than_the_limit_is_refused_with_the_setting_that_says_so) {
  serve({.sessions_max = 3, .setting = "router.sessions_max"});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(call().welcomed);
  Caller& refused = call();
  ASSERT_TRUE(condition_.wait([&] { return refused.closed.has_value(); }));
  EXPECT_EQ(refused.closed->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.closed->message().find("3 callers are connected here, router.sessions_max"), std::string::npos) << *refused.closed;
  callers_[0]->session->close();  // Who leaves makes room.
  ASSERT_TRUE(condition_.wait([&] { return callers_[0]->closed && service_->sessions() == 2; }));
  EXPECT_TRUE(call().welcomed);
}

TEST_F(InferenceTest, a_caller_who_does_not_read_loses_his_session_and_nobody_else_does) {
  serve({.session_bytes_max = 1 << 20});
  Caller& slow = call(true);
  const uint64_t slow_number = number_of(slow);
  Caller& other = call();
  const uint64_t other_number = number_of(other);
  for (uint64_t n = 0; n < 1000 && service_->sessions() == 2; ++n) {  // At most 64 MB: what is on its way to him, and his share.
    service_->send(slow_number, reply(n, 64 << 10));
    service_->send(other_number, reply(n));
    ASSERT_TRUE(condition_.wait([&] { return other.replies.size() == n + 1; })) << "behind a slow one";
  }
  EXPECT_TRUE(condition_.wait([&] { return service_->sessions() == 1; }));
  EXPECT_FALSE(other.closed);
}

TEST_F(InferenceTest, when_too_much_waits_for_all_together_the_one_with_the_most_goes) {
  serve({.backlog_bytes_max = 3 << 20});
  Caller& some = call();
  const uint64_t some_number = number_of(some);
  Caller& most = call();
  const uint64_t most_number = number_of(most);
  service_->cork();  // So that all of it waits.
  for (uint64_t n = 0; n < 20; ++n) service_->send(some_number, reply(n, 64 << 10));
  for (uint64_t n = 0; n < 40; ++n) service_->send(most_number, reply(n, 64 << 10));
  service_->uncork();
  EXPECT_TRUE(condition_.wait([&] { return most.closed.has_value(); }));
  EXPECT_TRUE(condition_.wait([&] { return some.replies.size() == 20; }));
  EXPECT_FALSE(some.closed);
}

}  // namespace
}  // namespace cenote::wire
