// load/pace.h - models a slower link by spacing reads; figures made with it are labelled "paced". Pure.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace cenote::load {

class Pace {
 public:
  // 1 GB = 10^9 bytes; 0: not paced.
  explicit Pace(double gb_per_s) : ns_per_byte_(gb_per_s > 0 ? 1.0 / gb_per_s : 0) {}

  bool allows(Instant now) const { return now >= free_at_; }
  Instant free_at() const { return free_at_; }

  // A late caller may catch up, but only by kSlack: a link that was idle does not become faster afterwards.
  void took(uint64_t bytes, Instant now) {
    if (ns_per_byte_ == 0) return;
    const Instant earliest{now.ns - kSlack.ns};
    free_at_ = std::max(free_at_, earliest) + Duration{static_cast<int64_t>(static_cast<double>(bytes) * ns_per_byte_)};
  }

 private:
  static constexpr Duration kSlack = Duration::from_ms(2);
  double ns_per_byte_;
  Instant free_at_;
};

}  // namespace cenote::load
