// bin/open_count.h - how many streams may still call back, so that their target can wait for the last before it goes.
#pragma once

#include <condition_variable>
#include <mutex>

namespace cenote {

// Thread-safe. remove() is the last thing a callback does.
class OpenCount {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  void remove() {
    const std::lock_guard lock(mutex_);
    --count_;
    changed_.notify_all();
  }
  void wait_for_none() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return count_ == 0; });  // No deadline: what is counted was cancelled or has one.
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

}  // namespace cenote
