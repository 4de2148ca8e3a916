// Goal: a mailbox delivers in order, is bounded, and wakes its one reader for events, descriptors and deadlines alike.
#include "bin/mailbox.h"

#include <gtest/gtest.h>

#include <thread>

namespace cenote {
namespace {

TEST(MailboxTest, events_arrive_in_order_and_all_at_once) {
  Mailbox<int> mailbox(8);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(mailbox.post(i).ok());
  std::vector<int> events;
  mailbox.wait(Instant::infinite_future(), {-1}, events);
  EXPECT_EQ(events, (std::vector<int>{0, 1, 2}));
  mailbox.wait(monotonic_now(), {-1}, events);
  EXPECT_TRUE(events.empty());
}

TEST(MailboxTest, a_full_mailbox_refuses_events_but_not_answers) {
  Mailbox<int> mailbox(1);
  EXPECT_TRUE(mailbox.post(1).ok());
  EXPECT_EQ(mailbox.post(2).code(), absl::StatusCode::kResourceExhausted);
  mailbox.post_answer(3);
  std::vector<int> events;
  mailbox.wait(Instant::infinite_future(), {-1}, events);
  EXPECT_EQ(events, (std::vector<int>{1, 3}));
}

TEST(MailboxTest, a_waiting_reader_is_woken_by_another_thread) {
  Mailbox<int> mailbox(8);
  std::thread poster([&] { mailbox.post_answer(7); });
  std::vector<int> events;
  while (events.empty()) mailbox.wait(monotonic_now() + Duration::from_seconds(30), {-1}, events);
  EXPECT_EQ(events, std::vector<int>{7});
  poster.join();
}

TEST(MailboxTest, a_readable_descriptor_and_a_deadline_end_the_wait_without_events) {
  Mailbox<int> mailbox(8);
  const int fd = ::eventfd(1, EFD_CLOEXEC);
  std::vector<int> events;
  mailbox.wait(Instant::infinite_future(), {fd}, events);
  EXPECT_TRUE(events.empty());
  ::close(fd);
  const Instant before = monotonic_now();
  mailbox.wait(before + Duration::from_ms(20), {-1}, events);
  EXPECT_GE(monotonic_now(), before + Duration::from_ms(20));
}

TEST(MailboxTest, a_closed_mailbox_takes_nothing_and_forgets_what_it_had) {
  Mailbox<int> mailbox(8);
  EXPECT_TRUE(mailbox.post(1).ok());
  mailbox.close();
  EXPECT_EQ(mailbox.post(2).code(), absl::StatusCode::kUnavailable);
  std::vector<int> events;
  mailbox.wait(monotonic_now(), {-1}, events);
  EXPECT_TRUE(events.empty());
}

}  // namespace
}  // namespace cenote
