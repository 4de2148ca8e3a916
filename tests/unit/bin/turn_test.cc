// Goal: work that many threads bring is all done, by one of them at a time, and never left lying. Method: threads that leave numbers for
// whoever works, beside one that waits for its turn.
#include "bin/turn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "bin/mailbox.h"

namespace cenote {
namespace {

TEST(TurnTest, everything_that_threads_leave_is_worked_on_once_and_by_one_at_a_time) {
  constexpr int kThreads = 4, kEach = 20'000;
  Mailbox<int> mailbox(1 << 20);
  Turn turn;
  std::vector<int> taken, done;
  int working = 0, worst = 0;  // Not atomic: the turn guards them.
  const auto step = [&] {
    worst = std::max(worst, ++working);
    mailbox.take(taken);
    done.insert(done.end(), taken.begin(), taken.end());
    --working;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        mailbox.post_answer_quietly(t * kEach + i);
        turn.work_or_leave(step);
      }
    });
  }
  for (int i = 0; i < 1000; ++i) turn.work(step);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(worst, 1);
  ASSERT_EQ(done.size(), size_t{kThreads} * kEach) << "some were left lying";
  std::sort(done.begin(), done.end());
  std::vector<int> all(done.size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(done, all);
}

// As a state machine's action may bring the next event at once.
TEST(TurnTest, work_that_brings_work_is_not_nested) {
  Turn turn;
  int left = 5, depth = 0;
  const std::function<void()> step = [&] {
    EXPECT_EQ(++depth, 1);
    if (--left > 0) turn.work_or_leave(step);
    --depth;
  };
  turn.work_or_leave(step);
  EXPECT_EQ(left, 0);
}

// As gRPC's threads bring it under load: the role's own has deadlines to see to.
TEST(TurnTest, who_waits_for_his_turn_gets_it_though_others_bring_work_without_end) {
  constexpr int kTurns = 20, kThreads = 3;
  Turn turn;
  std::atomic<bool> enough{false};
  std::atomic<int> rounds{0};
  const std::function<void()> step = [&] {
    ++rounds;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (!enough) turn.work_or_leave(step);  // There is always more.
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      while (!enough) turn.work_or_leave(step);
    });
  }
  std::vector<int> waited;
  for (int i = 0; i < kTurns; ++i) {
    while (rounds == 0) std::this_thread::yield();
    const int before = rounds;
    int after = -1;  // At the first time: what others left makes him work again.
    turn.work([&] { after = after < 0 ? rounds.load() : after; });
    waited.push_back(after - before);
    rounds = 0;
  }
  enough = true;
  for (std::thread& thread : threads) thread.join();
  std::ranges::sort(waited);
  EXPECT_LE(waited[kTurns / 2], kThreads + 1) << "the longest " << waited.back();
}

TEST(TurnTest, an_event_that_wakes_does_so_behind_one_that_was_posted_quietly) {
  Mailbox<int> mailbox(8);
  mailbox.post_answer_quietly(1);
  mailbox.post_answer(2);
  const Instant before = monotonic_now();
  mailbox.sleep(before + Duration::from_seconds(30), {-1});
  EXPECT_LT(monotonic_now() - before, Duration::from_seconds(20));
  std::vector<int> events;
  mailbox.take(events);
  EXPECT_EQ(events, (std::vector<int>{1, 2}));
  mailbox.post_answer_quietly(3);
  mailbox.sleep(monotonic_now() + Duration::from_ms(20), {-1});  // Ends by its deadline.
  mailbox.take(events);
  EXPECT_EQ(events, std::vector<int>{3});
}

}  // namespace
}  // namespace cenote
