// bin/turn.h - one role's work, done by whichever thread brings it: no thread has to be woken for a message, which costs more than most
// messages do. At most one thread works at a time; who comes meanwhile leaves his work to that one.
//
//   mailbox.post_quietly(event);              // Any thread:
//   turn.work_or_leave([this] { step(); });   // step() takes what is in the mailbox.
//   turn.work([this] { step(); });            // The role's own thread, which minds deadlines: waits for its turn.
//
// Work must not block: gRPC's threads do it.
#pragma once

#include <atomic>

namespace cenote {

class Turn {
 public:
  template <typename Work>
  void work_or_leave(Work&& work) {
    left_.store(true);
    while (left_.load()) {
      if (busy_.exchange(true)) return;  // Whoever works looks at left_ afterwards.
      left_.store(false);
      work();
      end();
    }
  }

  template <typename Work>
  void work(Work&& work) {
    while (busy_.exchange(true)) busy_.wait(true);
    left_.store(false);
    work();
    end();
    if (left_.load()) work_or_leave(work);
  }

 private:
  void end() {
    busy_.store(false);
    busy_.notify_one();  // A system call only if somebody waits.
  }

  std::atomic<bool> busy_{false};
  std::atomic<bool> left_{false};
};

}  // namespace cenote
