// Goal: the simulated network does to processes what a real one does: order, cuts, dead and silent peers, stops; and a world is the same
// for the same seed. Method: two processes that write down what they hear.
#include "simulate/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "simulate/content.h"
#include "simulate/run.h"

namespace cenote::simulate {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Wire : Stream<std::string, std::string> {};

class Listener final : public Process {
 public:
  using Process::Process;
  void run(Instant) override { ++turns; }
  Instant due() const override { return restless ? Instant{} : Instant::infinite_future(); }

  std::vector<std::string> heard;
  std::shared_ptr<Wire> wire;
  std::string ended;
  int turns = 0;
  bool restless = false;
};

class NetworkTest : public testing::Test {
 protected:
  NetworkTest() : a_(network_.add_place("a", "a")), b_(network_.add_place("b", "b")) {
    network_.start(a_, std::make_unique<Listener>(network_, a_, 1));
    network_.start(b_, std::make_unique<Listener>(network_, b_, 2));
  }
  Listener& at(PlaceId place) { return static_cast<Listener&>(*network_.process(place)); }
  void pass(Duration time) { world_.run_until(world_.now() + time); }
  void connect() {
    Listener& a = at(a_);
    a.wire = network_.connect<Wire>(
        a, b_,
        [](Process& taker, const std::shared_ptr<Wire>& wire) {
          auto& b = static_cast<Listener&>(taker);
          b.wire = wire;
          wire->to_taker = [&b](std::string message) { b.heard.push_back(std::move(message)); };
          wire->link->end(1).closed = [&b](const absl::Status& why) { b.ended = std::string(why.message()); };
        },
        [&a](const absl::Status& why) { a.ended = std::string(why.message()); });
    a.wire->to_opener = [&a](std::string message) { a.heard.push_back(std::move(message)); };
    pass(ms(10));
  }
  static Duration ms(int64_t n) { return Duration::from_ms(n); }

  World world_{7, false};
  Network network_{world_};
  PlaceId a_, b_;
};

TEST_F(NetworkTest, messages_of_a_stream_arrive_in_order_whatever_their_size) {
  connect();
  at(a_).wire->up("large", 10 << 20);
  at(a_).wire->up("small", 1);
  pass(Duration::from_seconds(2));
  EXPECT_THAT(at(b_).heard, ElementsAre("large", "small"));
}

TEST_F(NetworkTest, what_is_sent_into_a_cut_arrives_when_it_heals) {
  connect();
  network_.cut(a_, b_);
  at(a_).wire->up("one");
  at(b_).wire->down("back");
  pass(ms(1000));
  EXPECT_TRUE(at(b_).heard.empty());
  EXPECT_THAT(at(a_).heard, ElementsAre("back"));  // The other direction is whole.
  network_.heal(a_, b_);
  EXPECT_THAT(at(b_).heard, ElementsAre("one"));
  pass(kKeepalive * 2);
  EXPECT_TRUE(at(a_).ended.empty());  // It was whole again in time.
}

TEST_F(NetworkTest, a_cut_longer_than_keepalive_ends_the_link_at_both_sides) {
  connect();
  network_.cut(b_, a_);
  pass(kKeepalive - ms(1));
  EXPECT_TRUE(at(a_).ended.empty());
  pass(ms(2));
  EXPECT_THAT(at(a_).ended, HasSubstr("silent"));
  EXPECT_THAT(at(b_).ended, HasSubstr("silent"));
  network_.heal(b_, a_);
  at(a_).wire->up("late");
  pass(ms(100));
  EXPECT_TRUE(at(b_).heard.empty());
}

TEST_F(NetworkTest, a_death_is_noticed_after_what_was_sent_before_it) {
  connect();
  at(b_).wire->down("last word");
  network_.kill(b_, "SIGKILL");
  EXPECT_TRUE(at(a_).ended.empty());
  pass(ms(10));
  EXPECT_THAT(at(a_).heard, ElementsAre("last word"));
  EXPECT_THAT(at(a_).ended, HasSubstr("reset"));
}

TEST_F(NetworkTest, nobody_there_refuses) {
  network_.kill(b_, "SIGKILL");
  connect();
  EXPECT_THAT(at(a_).ended, HasSubstr("refused"));
}

TEST_F(NetworkTest, a_stopped_process_hears_everything_when_it_goes_on) {
  connect();
  network_.stop(b_);
  const int turns = at(b_).turns;
  at(a_).wire->up("one");
  at(a_).wire->up("two");
  pass(ms(1000));
  EXPECT_TRUE(at(b_).heard.empty());
  EXPECT_EQ(at(b_).turns, turns);
  network_.resume(b_);
  pass(ms(1));
  EXPECT_THAT(at(b_).heard, ElementsAre("one", "two"));
}

TEST_F(NetworkTest, a_call_is_answered_once_by_its_server_by_its_death_or_by_its_deadline) {
  std::vector<absl::StatusCode> answers;
  const auto call = [&](bool answered) {
    network_.call<absl::Status>(
        at(a_), b_, 64, ms(500),
        [answered](Process&, const Network::Answer<absl::Status>& answer) {
          if (answered) answer(absl::OkStatus(), 64);
        },
        [&](const absl::Status& status) { answers.push_back(status.code()); });
  };
  call(true);
  pass(ms(1000));
  call(false);
  pass(ms(1000));
  call(false);
  pass(ms(100));
  network_.kill(b_, "SIGKILL");
  pass(ms(1000));
  call(true);
  pass(ms(1000));
  EXPECT_THAT(answers, ElementsAre(absl::StatusCode::kOk, absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kUnavailable, absl::StatusCode::kUnavailable));
}

TEST_F(NetworkTest, a_process_that_asks_for_turns_without_end_is_caught) {
  at(a_).restless = true;
  network_.wake(a_);
  pass(Duration::from_seconds(1));
  EXPECT_THAT(world_.failure(), HasSubstr("a spins"));
}

TEST(Content, knows_a_blocks_bytes_from_others_and_from_bad_ones) {
  Digest one, two;
  one.bytes[0] = 1;
  two.bytes[0] = 2;
  const BlockRef block{one, 3 * kChunkBytes / 2};
  Content content;
  content.write_block(4096, block);
  EXPECT_TRUE(content.holds(4096, block));
  EXPECT_FALSE(content.holds(4096, {two, block.size_bytes}));
  EXPECT_FALSE(content.holds(8192, block));
  Content written = content;
  written.write(4096 + kChunkBytes, {.block = two, .size_bytes = 4096});
  EXPECT_FALSE(written.holds(4096, block));
  content.corrupt(1);
  EXPECT_FALSE(content.holds(4096, block));
}

TEST(Run, the_same_seed_gives_the_same_run_and_another_one_another) {
  const RunResult first = run_seed(3, false), again = run_seed(3, false), other = run_seed(4, false);
  EXPECT_EQ(first.failure, "");
  EXPECT_EQ(first.hash, again.hash);
  EXPECT_NE(first.hash, other.hash);
  EXPECT_GT(first.succeeded, 0u);
}

}  // namespace
}  // namespace cenote::simulate
