#include "simulate/world.h"

#include <algorithm>

namespace cenote::simulate {

void World::at(Instant when, std::function<void()> action) {
  heap_.push({std::max(when, now_), next_sequence_++, std::move(action)});
}

void World::run_until(Instant end) {
  while (!failed() && !heap_.empty() && heap_.top().when <= end) {
    // The heap's order does not look at the action: it may be moved out.
    Entry entry = std::move(const_cast<Entry&>(heap_.top()));
    heap_.pop();
    now_ = entry.when;
    ++actions_run_;
    entry.action();
  }
  now_ = std::max(now_, end);
}

void World::fail(std::string what) {
  if (!failed()) failure_ = str_cat("at ", now_.ns / 1'000'000, " ms: ", what);
  say("FAILED: ", what);
}

void World::write(const std::string& line) const { std::printf("%10.3f %s\n", static_cast<double>(now_.ns) * 1e-6, line.c_str()); }

}  // namespace cenote::simulate
