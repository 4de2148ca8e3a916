// bin/controller_pulse.h - a daemon's beats to the controller, from the thread whose life they prove, and whether the controller answers them.
// A silent controller changes nothing but what the log says: daemons go on with what it said last. The role's thread only.
#pragma once

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/suspicion.h"
#include "wire/controller_link.h"

namespace cenote {

class ControllerPulse {
 public:
  explicit ControllerPulse(Duration silence_max) : every_(beat_interval(silence_max)) {}

  // In each round of the role's loop; does nothing before next().
  void step(Instant now, wire::ControllerLink& link) {
    if (now < next()) return;
    silence_.awake(now);
    if (now + kTogether >= next_beat_) {
      link.beat(every_);
      next_beat_ = now + Duration{every_.ns * 3 / 2};  // Twice a silence: a false suspicion here costs an order of preference, a beat costs CPU.
    }
    if (link.connected()) {
      silence_.expect(now, 0, every_);
      const Instant heard = link.heard_at();
      if (heard > std::exchange(heard_at_, heard) && silence_.heard(heard, 0)) LOG_INFO("the controller speaks again");
    } else {
      silence_.forget(0);
    }
    if (silence_.step(now).empty()) return;
    ++suspected_;
    LOG_WARNING("the controller is silent; serving goes on by what it said last");
  }
  Instant next() const { return std::min(next_beat_, silence_.next_deadline()); }
  uint64_t suspected() const { return suspected_; }
  StallCount stalls() const { return silence_.stalls(); }

 private:
  static constexpr Duration kTogether = Duration::from_ms(10);  // One awakening for both.
  const Duration every_;
  Instant next_beat_;
  Instant heard_at_;
  Suspicion<int> silence_;
  uint64_t suspected_ = 0;
};

}  // namespace cenote
