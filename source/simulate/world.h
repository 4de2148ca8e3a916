// simulate/world.h - virtual time: a heap of (instant, sequence, action), one seeded generator, and what a run leaves behind: a hash of
// all that happened, and the first invariant that did not hold. The same seed gives the same run. Thread-compatible.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/rng.h"
#include "base/text.h"

namespace cenote::simulate {

class World {
 public:
  // `tracing`: each line of say() goes to standard output.
  World(uint64_t seed, bool tracing) : rng_(seed), tracing_(tracing) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Instant now() const { return now_; }
  // At `when`, or now if that is past; actions of one instant run in the order they came.
  void at(Instant when, std::function<void()> action);
  void after(Duration delay, std::function<void()> action) { at(now_ + delay, std::move(action)); }
  // Runs what is due up to `end`, then it is `end`; stops early once something failed.
  void run_until(Instant end);

  uint64_t draw(uint64_t bound) { return rng_.below(bound); }
  Duration draw(Duration low, Duration high) { return {low.ns + static_cast<int64_t>(rng_.below(static_cast<uint64_t>(high.ns - low.ns) + 1))}; }
  bool chance(uint32_t percent) { return rng_.below(100) < percent; }
  Incarnation draw_incarnation() { return rng_.next() | 1; }

  // Folded into the hash (FNV-1a, 64 bits, word by word).
  void note(uint64_t value) { hash_ = (hash_ ^ value) * 1099511628211ull; }
  uint64_t hash() const { return hash_; }
  bool tracing() const { return tracing_; }
  template <typename... Parts>
  void say(const Parts&... parts) {
    if (tracing_) write(str_cat(parts...));
  }

  // An invariant does not hold. The first one counts; the run ends.
  void fail(std::string what);
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  uint64_t actions_run() const { return actions_run_; }

 private:
  struct Entry {
    Instant when;
    uint64_t sequence;
    std::function<void()> action;
    bool operator<(const Entry& other) const { return std::pair(when, sequence) > std::pair(other.when, other.sequence); }
  };
  void write(const std::string& line) const;

  Rng rng_;
  const bool tracing_;
  Instant now_{0};
  uint64_t next_sequence_ = 1;
  std::priority_queue<Entry> heap_;
  uint64_t hash_ = 14695981039346656037ull;
  uint64_t actions_run_ = 0;
  std::string failure_;
};

}  // namespace cenote::simulate
