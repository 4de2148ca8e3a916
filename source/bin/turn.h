// bin/turn.h - one role's work, done by whichever thread brings it: no thread has to be woken for a message, which costs more than most
// messages do. At most one thread works at a time; who comes meanwhile leaves his work to that one.
//
//   mailbox.post_quietly(event);              // Any thread:
//   turn.work_or_leave([this] { step(); });   // step() takes what is in the mailbox.
//   turn.work([this] { step(); });            // The role's own thread, which minds deadlines: waits for its turn.
//
// The next turn is the one's who waits: meanwhile nobody else begins to work, and what others leave is his. So his work, or what he does
// next, must take what is in the mailbox. One thread at a time calls work().
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
    while (left_.load() && !wanted_.load()) {  // Who waits sees the work too: he takes wanted_ back before he looks for any.
      if (busy_.exchange(true)) return;  // Whoever works looks at left_ afterwards.
      left_.store(false);
      work();
      end();
    }
  }

  template <typename Work>
  void work(Work&& work) {
    if (busy_.exchange(true)) {
      wanted_.store(true);
      while (busy_.exchange(true)) busy_.wait(true);
      wanted_.store(false);
    }
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
  std::atomic<bool> wanted_{false};  // By work(), which waits.
};

}  // namespace cenote
