// Goal: an executor's stream carries both directions in order, and its end, however it comes, reaches the agent exactly once.
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <gtest/gtest.h>
#include <mutex>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "wire/agent_link.h"
#include "wire/agent_service.h"
#include "wire/credentials.h"
#include "wire/server.h"

namespace cenote::wire {
namespace {

class AgentWireTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/cenote-agent-wire-XXXXXX";
    directory_ = mkdtemp(pattern);
    socket_ = directory_ + "/agent.sock";
    service_ = AgentService::create({.on_message =
                                         [this](StreamId stream, ExecutorUp message) {
                                           const std::lock_guard lock(mutex_);
                                           stream_ = stream;
                                           ups_.push_back(std::move(message));
                                           changed_.notify_all();
                                         },
                                     .on_closed =
                                         [this](StreamId, absl::Status) {
                                           const std::lock_guard lock(mutex_);
                                           ++closed_;
                                           changed_.notify_all();
                                         }});
    auto server = Server::start({.unix_path = socket_}, unix_server_credentials(), {service_->service()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override {
    service_->close_all();
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  template <typename Condition>
  bool eventually(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), condition);
  }

  std::string directory_;
  std::string socket_;
  std::unique_ptr<AgentService> service_;
  std::unique_ptr<Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  StreamId stream_ = 0;
  std::vector<ExecutorUp> ups_;
  std::vector<ExecutorDown> downs_;
  int closed_ = 0;
  int link_closed_ = 0;
  AgentLinkEvents events() {
    return {.on_message =
                [this](ExecutorDown message) {
                  const std::lock_guard lock(mutex_);
                  downs_.push_back(std::move(message));
                  changed_.notify_all();
                },
            .on_closed =
                [this](absl::Status) {
                  const std::lock_guard lock(mutex_);
                  ++link_closed_;
                  changed_.notify_all();
                }};
  }
};

TEST_F(AgentWireTest, messages_cross_both_ways_in_order) {
  auto link = AgentLink::open(socket_, events());
  ASSERT_TRUE(link->send(ExecutorReport{.name = "agent-0/host:0"}).ok());
  Digest revision;
  revision.bytes[0] = 7;
  ASSERT_TRUE(link->send(Acquire{.ticket = 5, .revision = revision, .urgent = true}).ok());
  ASSERT_TRUE(eventually([&] { return ups_.size() == 2; }));
  EXPECT_EQ(std::get<ExecutorReport>(ups_[0]).name, "agent-0/host:0");
  EXPECT_EQ(std::get<Acquire>(ups_[1]).revision, revision);
  service_->send(stream_, Attached{.cache_path = "/x", .cache_bytes = 9, .executor_name = "agent-0/host:0"});
  service_->send(stream_, Acquired{.ticket = 5, .weights = {{.offset_bytes = 4096, .size_bytes = 10, .word = 3}}, .cached_bytes = 10});
  service_->send(stream_ + 100, DrainExecutor{});  // Nobody's.
  ASSERT_TRUE(eventually([&] { return downs_.size() == 2; }));
  EXPECT_EQ(std::get<Attached>(downs_[0]).cache_path, "/x");
  EXPECT_EQ(std::get<Acquired>(downs_[1]).weights.front().offset_bytes, 4096u);
  link->close();
  EXPECT_TRUE(eventually([&] { return closed_ == 1 && link_closed_ == 1; }));
}

TEST_F(AgentWireTest, a_killed_executor_ends_its_stream) {
  // A child that speaks gRPC must not be forked from a process that does: it runs this binary anew.
  const pid_t child = fork();
  if (child == 0) {
    setenv("CENOTE_TEST_AGENT_SOCKET", socket_.c_str(), 1);
    execl("/proc/self/exe", "agent_test", "--gtest_filter=AgentWireChild.*", static_cast<char*>(nullptr));
    _exit(127);
  }
  ASSERT_TRUE(eventually([&] { return !ups_.empty(); }));
  EXPECT_EQ(closed_, 0);
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(eventually([&] { return closed_ == 1; }));
}

TEST_F(AgentWireTest, an_agent_that_ends_closes_the_links) {
  auto link = AgentLink::open(socket_, events());
  ASSERT_TRUE(link->send(ExecutorReport{.name = "x"}).ok());
  ASSERT_TRUE(eventually([&] { return !ups_.empty(); }));
  service_->close_all();
  EXPECT_TRUE(eventually([&] { return link_closed_ == 1 && closed_ == 1; }));
  EXPECT_EQ(link->send(ReleaseRevision{}).code(), absl::StatusCode::kUnavailable);
}

// The child of the test above; without the variable there is nothing to do.
TEST(AgentWireChild, holds_a_stream_until_it_is_killed) {
  const char* socket = getenv("CENOTE_TEST_AGENT_SOCKET");
  if (socket == nullptr) GTEST_SKIP() << "run by a_killed_executor_ends_its_stream";
  auto link = AgentLink::open(socket, {.on_message = [](ExecutorDown) {}, .on_closed = [](absl::Status) {}});
  ASSERT_TRUE(link->send(ExecutorReport{.name = "child"}).ok());
  std::this_thread::sleep_for(std::chrono::seconds(60));
}

}  // namespace
}  // namespace cenote::wire
