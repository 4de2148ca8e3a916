#include "node/supervisor.h"

#include <algorithm>
#include <array>
#include <csignal>

#include "base/status.h"

namespace cenote::node {
namespace {

constexpr std::array kStopOrder = {Role::kRouter, Role::kAgent, Role::kMemory, Role::kController};

}  // namespace

Supervisor::Supervisor(SupervisorOptions options) : options_(std::move(options)) {
  for (const SupervisedChild& child : options_.children) {
    CENOTE_CHECK(std::ranges::find(kStopOrder, child.role) != kStopOrder.end());
    ChildState state;
    state.child = child;
    state.backoff = kBackoffMin;
    CENOTE_CHECK(children_.emplace(child.name, std::move(state)).second);
  }
}

void Supervisor::step(Instant now, std::span<const SupervisorEvent> events, Actions& actions) {
  for (const SupervisorEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
  if (stopping()) {
    advance_stop(now, actions);
    return;
  }
  for (auto& [name, state] : children_) {
    if (state.pid != 0 || state.start_due > now) continue;
    state.start_due = Instant::infinite_future();
    actions.emplace_back(StartChild{name});
  }
}

void Supervisor::handle(Instant now, const ChildStarted& event, Actions& actions) {
  const auto found = children_.find(event.name);
  CENOTE_CHECK(found != children_.end() && found->second.pid == 0);
  ChildState& state = found->second;
  state.pid = event.pid;
  state.started = now;
  actions.emplace_back(ChildChanged{event.name});
  // A start that was under way when the stop began: its stage may have been signalled already.
  if (stopping()) actions.emplace_back(SignalChild{event.pid, SIGTERM});
}

void Supervisor::handle(Instant now, const ChildNotStarted& event, Actions& actions) {
  const auto found = children_.find(event.name);
  CENOTE_CHECK(found != children_.end() && found->second.pid == 0);
  found->second.last_exit = absl::StrCat("not started: ", event.status.message());
  schedule_start(now, found->second);
  actions.emplace_back(ChildChanged{event.name});
}

void Supervisor::handle(Instant now, const ChildExited& event, Actions& actions) {
  const auto found = std::ranges::find_if(children_, [&](const auto& c) { return c.second.pid == event.pid; });
  if (found == children_.end()) return;  // A process we did not start.
  ChildState& state = found->second;
  if (now - state.started >= kSettledAfter) state.backoff = kBackoffMin;
  state.pid = 0;
  state.last_exit = event.how;
  schedule_start(now, state);
  actions.emplace_back(ChildChanged{found->first});
}

void Supervisor::schedule_start(Instant now, ChildState& state) {
  if (stopping()) {
    state.start_due = Instant::infinite_future();
    return;
  }
  ++state.restarts;
  state.start_due = now + state.backoff;
  state.backoff = std::min(state.backoff * 2, kBackoffMax);
}

void Supervisor::handle(Instant now, const StopAsked&, Actions& actions) {
  if (stopping()) return;
  stage_ = 0;
  stage_deadline_ = now + options_.drain_timeout;
  for (auto& [name, state] : children_) state.start_due = Instant::infinite_future();
  signal_stage(SIGTERM, actions);
}

bool Supervisor::stage_ended() const {
  return std::ranges::none_of(children_, [&](const auto& c) {
    return c.second.child.role == kStopOrder[stage_] && c.second.pid != 0;
  });
}

void Supervisor::advance_stop(Instant now, Actions& actions) {
  while (!done_ && stage_ended()) {
    if (stage_ + 1 == static_cast<int>(kStopOrder.size())) {
      done_ = true;
      actions.emplace_back(StopDone{});
      return;
    }
    ++stage_;
    killed_ = false;
    stage_deadline_ = now + options_.drain_timeout;
    signal_stage(SIGTERM, actions);
  }
  if (!done_ && !killed_ && now >= stage_deadline_) {
    killed_ = true;
    signal_stage(SIGKILL, actions);
  }
}

void Supervisor::signal_stage(int signal, Actions& actions) const {
  for (const auto& [name, state] : children_) {
    if (state.child.role == kStopOrder[stage_] && state.pid != 0) actions.emplace_back(SignalChild{state.pid, signal});
  }
}

Instant Supervisor::next_deadline() const {
  if (stopping()) return done_ || killed_ ? Instant::infinite_future() : stage_deadline_;
  Instant next = Instant::infinite_future();
  for (const auto& [name, state] : children_) {
    if (state.pid == 0) next = std::min(next, state.start_due);
  }
  return next;
}

}  // namespace cenote::node
