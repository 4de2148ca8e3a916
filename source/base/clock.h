// base/clock.h - time as the state machines see it. Instant and Duration are plain nanosecond counts, so a simulator can
// make its own; only bin/ and the transports read a real clock.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <limits>

namespace cenote {

// A span of time in nanoseconds.
struct Duration {
  int64_t ns = 0;
  static constexpr Duration from_us(int64_t us) { return {us * 1'000}; }
  static constexpr Duration from_ms(int64_t ms) { return {ms * 1'000'000}; }
  static constexpr Duration from_seconds(double s) { return {static_cast<int64_t>(s * 1e9)}; }
  constexpr double seconds() const { return static_cast<double>(ns) * 1e-9; }
  constexpr double ms() const { return static_cast<double>(ns) * 1e-6; }
  constexpr int64_t us() const { return ns / 1'000; }
  constexpr auto operator<=>(const Duration&) const = default;
  constexpr Duration operator+(Duration other) const { return {ns + other.ns}; }
  constexpr Duration operator-(Duration other) const { return {ns - other.ns}; }
  constexpr Duration operator*(int64_t factor) const { return {ns * factor}; }
};

// A point on this host's monotonic clock (or a simulator's), in nanoseconds. Never sent to another host: durations are.
struct Instant {
  int64_t ns = 0;
  static constexpr Instant infinite_future() { return {std::numeric_limits<int64_t>::max()}; }
  constexpr auto operator<=>(const Instant&) const = default;
  constexpr Instant operator+(Duration d) const {
    return {ns > std::numeric_limits<int64_t>::max() - d.ns && d.ns > 0 ? std::numeric_limits<int64_t>::max() : ns + d.ns};
  }
  constexpr Duration operator-(Instant other) const { return {ns - other.ns}; }
};

// CLOCK_MONOTONIC.
inline Instant monotonic_now() {
  return {std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()};
}

// Wall clock, microseconds since 1970, for records people read; no decision may depend on it.
inline int64_t wall_clock_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace cenote
