// wire/cancellation.h - ends calls from another thread: a Ctrl-C while a deploy waits for its peers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>

namespace cenote::wire {

// Thread-safe. Once cancelled it stays so: calls made with it afterwards end at once with kCancelled. Must outlive them.
class Cancellation {
 public:
  void cancel();
  bool cancelled() const;

  // While it lives, cancel() calls `stop`, from the cancelling thread and at most once; at once if cancelled already. The destructor
  // waits for a `stop` that runs.
  class Scope {
   public:
    Scope(Cancellation* cancellation, std::function<void()> stop);  // Null: nothing to do.
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Cancellation* const cancellation_;
    uint64_t id_ = 0;
  };

 private:
  mutable std::mutex mutex_;  // Held while `stop`s run: they only ask gRPC to end a call.
  std::map<uint64_t, std::function<void()>> stops_;
  uint64_t next_id_ = 1;
  bool cancelled_ = false;
};

}  // namespace cenote::wire
