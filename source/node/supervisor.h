// node/supervisor.h - keeps one host's daemons running: starts them in order, restarts what dies with back-off, stops them in order.
// A state machine: step(now, events) -> actions; no I/O, clock or threads. bin/role_supervisor.cc feeds it processes.
//
// Start: controller, memory, agents, routers, all at once (each waits for its peers by itself). Stop: routers first, so that nothing new
// is admitted; then agents (with their executors), memory servers, the controller last. A stage that has not ended when
// its drain deadline passes is killed.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "message/member.h"

namespace cenote::node {

struct SupervisedChild {
  std::string name;  // Unique.
  Role role = Role::kMemory;
};

struct SupervisorOptions {
  std::vector<SupervisedChild> children;
  Duration drain_timeout = Duration::from_seconds(10);  // Of each stage of the stop.
};

// ---- events -------------------------------------------------------------------------------------------------------------
struct ChildStarted { std::string name; int64_t pid = 0; };
struct ChildNotStarted { std::string name; absl::Status status; };
struct ChildExited { int64_t pid = 0; std::string how; };  // how: "exit 3", "signal 9 (Killed)"
struct StopAsked {};
using SupervisorEvent = std::variant<ChildStarted, ChildNotStarted, ChildExited, StopAsked>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct StartChild { std::string name; };                   // Answered by ChildStarted or ChildNotStarted.
struct SignalChild { int64_t pid = 0; int signal = 0; };
struct ChildChanged { std::string name; };                 // Its state() is worth writing down.
struct StopDone {};                                        // Every child has ended after StopAsked.
using SupervisorAction = std::variant<StartChild, SignalChild, ChildChanged, StopDone>;

class Supervisor {
 public:
  struct ChildState {
    SupervisedChild child;
    int64_t pid = 0;               // 0: not running.
    uint64_t restarts = 0;         // Starts after the first.
    std::string last_exit;         // "" until it ended once.
    Instant started;               // Of the running process.
    Instant start_due;             // When not running; infinite_future() while a start is under way or it shall stay down.
    Duration backoff;              // Before the next start.
  };

  explicit Supervisor(SupervisorOptions options);

  // Appends to `actions`. Instants must not go backwards. The first call starts everything.
  void step(Instant now, std::span<const SupervisorEvent> events, std::vector<SupervisorAction>& actions);
  // When step() has something to do without an event.
  Instant next_deadline() const;
  const std::map<std::string, ChildState>& children() const { return children_; }
  bool stopping() const { return stage_ >= 0; }

  static constexpr Duration kBackoffMin = Duration::from_ms(100);
  static constexpr Duration kBackoffMax = Duration::from_ms(10'000);
  static constexpr Duration kSettledAfter = Duration::from_ms(30'000);  // Up this long: the back-off starts anew.

 private:
  using Actions = std::vector<SupervisorAction>;
  void handle(Instant now, const ChildStarted& event, Actions& actions);
  void handle(Instant now, const ChildNotStarted& event, Actions& actions);
  void handle(Instant now, const ChildExited& event, Actions& actions);
  void handle(Instant now, const StopAsked& event, Actions& actions);
  void schedule_start(Instant now, ChildState& state);
  bool stage_ended() const;
  void advance_stop(Instant now, Actions& actions);
  void signal_stage(int signal, Actions& actions) const;

  SupervisorOptions options_;
  std::map<std::string, ChildState> children_;
  int stage_ = -1;                 // Index into the stop order; -1: running.
  bool killed_ = false;            // The current stage was sent SIGKILL.
  bool done_ = false;
  Instant stage_deadline_;
};

}  // namespace cenote::node
