// Goal: a Stream delivers in order, bounds its queue, keeps only the newest snapshot of a slot, and always ends with exactly one
// on_closed, whoever ends it and however. Method: real gRPC over mutual TLS on loopback, one process.
#include "wire/stream.h"

#include <gtest/gtest.h>

#include <future>

#include "certificates.h"
#include "join_service.h"
#include "wire/server.h"

namespace cenote::wire {
namespace {

class StreamTest : public testing::Test {
 protected:
  StreamTest() {
    node_ = *load_node_identity(certificates_.directory());
    server_ = *Server::start({}, server_credentials(node_), {&service_});
    channel_ = open_channel(server_->address(), channel_credentials(node_));
    stub_ = v1::Controller::NewStub(channel_);
  }
  ~StreamTest() override {
    if (stream_ != nullptr) stream_->cancel();
    client_.wait([&] { return opened_ == closed_.size(); });
    server_->stop(Duration::from_seconds(1));
  }

  void open(StreamOptions options = {.peer = "controller"}) {
    ++opened_;
    stream_ = ClientStream<v1::MemberReport, v1::Directive>::open(
        [&](grpc::ClientContext* context, auto* reactor) { stub_->async()->Join(context, reactor); }, std::move(options),
        {.on_message = [this](v1::Directive&& d) { client_.change([&] { directives_.push_back(std::move(d)); }); },
         .on_closed = [this](absl::Status why) { client_.change([&] { closed_.push_back(std::move(why)); }); }});
  }
  static v1::MemberReport report(uint64_t number) {
    v1::MemberReport report;
    report.set_routed(number);
    return report;
  }

  TestCertificates certificates_;
  Identity node_;
  JoinService service_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Controller::Stub> stub_;
  std::shared_ptr<ClientStream<v1::MemberReport, v1::Directive>> stream_;
  Condition client_;
  std::vector<v1::Directive> directives_;
  std::vector<absl::Status> closed_;
  size_t opened_ = 0;
};

TEST_F(StreamTest, messages_arrive_in_order_both_ways) {
  service_.on_report = [this](const v1::MemberReport& report) {
    v1::Directive directive;
    directive.mutable_memory()->set_version(report.routed());
    ASSERT_TRUE(service_.streams[0]->send(std::move(directive)).ok());
  };
  open({.peer = "controller", .queue_max = 2000});
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(stream_->send(report(i)).ok());
  ASSERT_TRUE(client_.wait([&] { return directives_.size() == 1000; }));
  for (uint64_t i = 0; i < 1000; ++i) EXPECT_EQ(directives_[i].memory().version(), i);
}

TEST_F(StreamTest, a_clients_close_delivers_what_was_queued_and_ends_ok_on_both_sides) {
  open();
  for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(stream_->send(report(i)).ok());
  stream_->close();
  EXPECT_EQ(stream_->send(report(100)).code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_TRUE(closed_[0].ok()) << closed_[0];
  ASSERT_TRUE(service_.condition.wait([&] { return service_.closed.size() == 1; }));
  EXPECT_TRUE(service_.closed[0].ok()) << service_.closed[0];
  EXPECT_EQ(service_.reports.size(), 100u);
}

TEST_F(StreamTest, a_servers_close_gives_the_client_its_status_after_what_was_queued) {
  open();
  ASSERT_TRUE(stream_->send(report(1)).ok());
  ASSERT_TRUE(service_.condition.wait([&] { return service_.reports.size() == 1; }));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(service_.streams[0]->send(v1::Directive()).ok());
  service_.streams[0]->close(absl::AlreadyExistsError("another member has this name"));
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_EQ(closed_[0].code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(closed_[0].message(), "another member has this name");
  EXPECT_EQ(directives_.size(), 50u);
}

TEST_F(StreamTest, a_cancelled_client_is_gone_for_the_server) {
  open();
  ASSERT_TRUE(stream_->send(report(1)).ok());
  ASSERT_TRUE(service_.condition.wait([&] { return service_.reports.size() == 1; }));
  stream_->cancel();
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_EQ(closed_[0].code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(service_.condition.wait([&] { return service_.closed.size() == 1; }));
  EXPECT_EQ(service_.closed[0].code(), absl::StatusCode::kUnavailable);
}

TEST_F(StreamTest, a_server_that_stops_ends_the_clients_stream) {
  open();
  ASSERT_TRUE(stream_->send(report(1)).ok());
  ASSERT_TRUE(service_.condition.wait([&] { return service_.reports.size() == 1; }));
  server_->stop(Duration::from_ms(10));
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_FALSE(closed_[0].ok());
}

TEST_F(StreamTest, a_full_queue_refuses_and_a_snapshot_replaces_the_one_that_waits) {
  // The server does not read: its handler is held in the first message.
  std::mutex held;
  held.lock();
  service_.on_report = [&](const v1::MemberReport&) { const std::lock_guard wait(held); };
  open({.peer = "controller", .queue_max = 4});
  v1::MemberReport large;
  large.set_name(std::string(8 << 20, 'x'));  // Fills every buffer between here and the handler.
  absl::Status status;
  while ((status = stream_->send(large)).ok()) {
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("4 messages wait"), std::string::npos) << status;
  EXPECT_EQ(stream_->send_latest(0, report(7)).code(), absl::StatusCode::kResourceExhausted);
  const size_t before = service_.reports.size();
  held.unlock();
  ASSERT_TRUE(service_.condition.wait([&] { return service_.reports.size() > before + 3; }));
  // Now hold it again with a slot waiting, and replace it many times.
  held.lock();
  while (stream_->queued() < 2) (void)stream_->send(large);
  absl::Status first = stream_->send_latest(0, report(0));
  while (!first.ok()) first = stream_->send_latest(0, report(0));
  const size_t queued = stream_->queued();
  for (uint64_t i = 1; i <= 1000; ++i) ASSERT_TRUE(stream_->send_latest(0, report(i)).ok());
  EXPECT_LE(stream_->queued(), queued);
  held.unlock();
  stream_->close();
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_TRUE(closed_[0].ok()) << closed_[0];
  EXPECT_EQ(service_.reports.back().routed(), 1000u);
}

TEST_F(StreamTest, silence_ends_a_stream_as_unavailable) {
  open({.peer = "controller", .silence_max = Duration::from_ms(200)});
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_EQ(closed_[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(closed_[0].message().find("silent"), std::string::npos) << closed_[0];
}

TEST_F(StreamTest, a_server_that_never_ends_its_side_cannot_hold_a_closing_client) {
  // The server's handler is stuck, so its end of the stream never comes; the client gives up after kCloseTimeout.
  std::promise<void> release, left;
  service_.on_report = [&, released = release.get_future().share()](const v1::MemberReport&) {
    released.wait();
    left.set_value();
  };
  open();
  ASSERT_TRUE(stream_->send(report(1)).ok());
  stream_->close();
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_EQ(closed_[0].code(), absl::StatusCode::kUnavailable);
  release.set_value();
  left.get_future().wait();  // It uses what lies on this stack.
}

TEST_F(StreamTest, a_refused_call_says_why) {
  service_.options.peer = "member";
  const auto channel = open_channel("127.0.0.1:1", channel_credentials(node_));
  stub_ = v1::Controller::NewStub(channel);
  open();
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == 1; }));
  EXPECT_EQ(closed_[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(closed_[0].message().find("controller: "), 0u) << closed_[0];
}

TEST_F(StreamTest, many_streams_that_end_at_random_moments_each_close_once) {
  std::vector<std::shared_ptr<Stream<v1::MemberReport>>> streams;
  for (int i = 0; i < 100; ++i) {
    open();
    streams.push_back(stream_);
  }
  std::thread sender([&] {
    for (int i = 0; i < 20; ++i) {
      for (auto& stream : streams) (void)stream->send(report(i));
    }
  });
  for (size_t i = 0; i < streams.size(); ++i) i % 2 == 0 ? streams[i]->cancel() : streams[i]->close();
  sender.join();
  ASSERT_TRUE(client_.wait([&] { return closed_.size() == streams.size(); }));
  EXPECT_EQ(closed_.size(), opened_);
}

}  // namespace
}  // namespace cenote::wire
