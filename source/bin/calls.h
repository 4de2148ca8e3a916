// bin/calls.h - unary calls that wait for their reply action: number -> how to answer. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "absl/status/status.h"

namespace cenote {

template <typename Result>
class Calls {
 public:
  using Done = std::function<void(Result)>;

  // Numbers are unique among all Calls that share `next`.
  uint64_t add(std::atomic<uint64_t>& next, Done done) {
    const uint64_t call = next.fetch_add(1);
    const std::lock_guard lock(mutex_);
    waiting_.emplace(call, std::move(done));
    return call;
  }
  // Answers it; nothing if it is answered already.
  void finish(uint64_t call, Result result) {
    Done done;
    {
      const std::lock_guard lock(mutex_);
      const auto found = waiting_.find(call);
      if (found == waiting_.end()) return;
      done = std::move(found->second);
      waiting_.erase(found);
    }
    done(std::move(result));
  }
  void fail_all(const absl::Status& status) {
    std::map<uint64_t, Done> waiting;
    {
      const std::lock_guard lock(mutex_);
      waiting.swap(waiting_);
    }
    for (auto& [call, done] : waiting) done(Result(status));
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, Done> waiting_;
};

}  // namespace cenote
