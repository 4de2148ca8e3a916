// bin/mailbox.h - where a role's only thread waits: events from any thread, the stop signal, its next deadline. Bounded; idle it sleeps.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/status.h"

namespace cenote {

template <typename Event>
class Mailbox {
 public:
  explicit Mailbox(size_t events_max) : events_max_(events_max), fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { CENOTE_CHECK(fd_ >= 0); }
  ~Mailbox() { ::close(fd_); }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Any thread. kResourceExhausted: `events_max` wait; the event is dropped. kUnavailable: the role is ending.
  absl::Status post(Event event) { return add(std::move(event), events_max_, true); }
  // For answers to work the role itself began, whose number its own limits bound: dropped only when the role is ending.
  void post_answer(Event event) { (void)add(std::move(event), SIZE_MAX, true); }
  // As these, but wake nobody: the caller sees to it that what waits is taken (bin/turn.h).
  absl::Status post_quietly(Event event) { return add(std::move(event), events_max_, false); }
  void post_answer_quietly(Event event) { (void)add(std::move(event), SIZE_MAX, false); }

  // Any thread. Ends a wait() that goes on, or the next one.
  void wake() {
    const uint64_t one = 1;
    (void)!::write(fd_, &one, sizeof one);
  }
  // Takes what waits, as wait() does, at once.
  void take(std::vector<Event>& events) {
    events.clear();
    const std::lock_guard lock(mutex_);
    woken_ = false;
    std::swap(events, waiting_);
  }

  // The role's thread. Returns at once if events wait, else when one comes, `deadline` passes or a fd of `others` (-1: none) becomes
  // readable; then takes all events into `events`, replacing what was there.
  void wait(Instant deadline, std::initializer_list<int> others, std::vector<Event>& events) {
    sleep(deadline, others);
    take(events);
  }
  // The same, but takes nothing; events that were posted quietly do not end it.
  void sleep(Instant deadline, std::initializer_list<int> others) {
    pollfd polled[4] = {{.fd = fd_, .events = POLLIN}};
    nfds_t count = 1;
    CENOTE_CHECK(others.size() < 4);
    for (const int other : others) polled[count++] = {.fd = other, .events = POLLIN};
    const int64_t left = std::clamp<int64_t>((deadline - monotonic_now()).ns, 0, 3'600'000'000'000);
    const timespec timeout{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    ::ppoll(polled, count, deadline == Instant::infinite_future() ? nullptr : &timeout, nullptr);  // EINTR: as a deadline.
    uint64_t count_read = 0;
    (void)!::read(fd_, &count_read, sizeof count_read);
  }

  // From here on nothing is taken any more.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    waiting_.clear();
  }

 private:
  absl::Status add(Event event, size_t limit, bool wakes) {
    const std::lock_guard lock(mutex_);
    if (closed_) return absl::UnavailableError("the daemon is ending");
    if (waiting_.size() >= limit) {
      return absl::ResourceExhaustedError(str_cat(waiting_.size(), " events wait, the daemon's limit; try again in a moment"));
    }
    waiting_.push_back(std::move(event));
    if (wakes && !std::exchange(woken_, true)) wake();
    return absl::OkStatus();
  }

  const size_t events_max_;
  const int fd_;
  std::mutex mutex_;
  std::vector<Event> waiting_;
  bool woken_ = false;  // Since the last take().
  bool closed_ = false;
};

}  // namespace cenote
