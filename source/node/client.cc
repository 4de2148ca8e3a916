#include "node/client.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::node {

RequestKeeper::RequestKeeper(size_t routers) : routers_(routers) { CENOTE_CHECK(routers > 0); }

void RequestKeeper::step(Instant now, std::span<const ClientEvent> events, Actions& actions) {
  router_silence_.awake(now);
  executor_silence_.awake(now);
  for (const ClientEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
  expire(now, actions);
  (void)router_silence_.step(now);
  if (router_silence_.any_suspected()) leave_silent_routers(now);
  for (const std::string& address : executor_silence_.step(now)) {
    for (auto& [id, request] : requests_) {
      const bool there = request.state == State::kAtExecutor || request.state == State::kAwaitingExecutor;
      if (!there || request.executor != address) continue;
      retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", address, " fell silent")));
      request.stay = true;
    }
  }
  send_waiting(now, actions);
}

void RequestKeeper::handle(Instant, const ClientSubmit& event, Actions&) {
  const auto [it, inserted] = requests_.try_emplace(event.id);
  CENOTE_CHECK(inserted);
  it->second.id = event.id;
  it->second.deadline = event.deadline;
  it->second.payload_bytes = event.payload_bytes;
  it->second.large = std::max(event.payload_bytes, event.reply_bytes) > kInlinePayloadBytesMax;
  deadlines_.emplace(event.deadline, event.id);
  waiting_.insert(event.id);
}

void RequestKeeper::handle(Instant, const ClientCancel& event, Actions& actions) {
  const auto it = requests_.find(event.id);
  if (it == requests_.end()) return;
  if (it->second.state != State::kWaiting && routers_[it->second.router].up) {
    actions.push_back(CancelAtRouter{it->second.router, event.id});
  }
  finish(it, absl::CancelledError("the request was cancelled by its sender"), false, actions);
}

void RequestKeeper::handle(Instant, const RouterUp& event, Actions&) {
  Router& router = routers_[event.router];
  router.up = true;
  router.credits = event.credits;
  router.beat = event.beat;
}

void RequestKeeper::handle(Instant now, const RouterBeat& event, Actions&) { router_silence_.heard(now, event.router, event.next); }
void RequestKeeper::handle(Instant now, const ExecutorBeat& event, Actions&) { executor_silence_.heard(now, event.address, event.next); }

void RequestKeeper::handle(Instant, const RouterCredits& event, Actions&) { routers_[event.router].credits = event.credits; }

void RequestKeeper::handle(Instant now, const RouterDown& event, Actions&) {
  Router& router = routers_[event.router];
  router.up = false;
  router_silence_.forget(event.router);
  router.why = event.why;
  for (auto& [id, request] : requests_) {
    // With the payload at the executor already, its reply comes from there: the router may be forgotten.
    if (request.router == event.router && request.state == State::kAtRouter) retry(now, request, event.why);
  }
  CENOTE_CHECK(router.outstanding == 0);
}

void RequestKeeper::handle(Instant now, const ExecutorUp& event, Actions& actions) {
  executors_[event.address] = {event.incarnation, event.beat};
  executor_silence_.forget(event.address);  // That it connects was waited for until now.
  for (auto& [id, request] : requests_) {
    if (request.state != State::kAwaitingExecutor || request.executor != event.address) continue;
    if (request.incarnation != event.incarnation) {
      retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", event.address, " restarted")));
      continue;
    }
    send_to_executor(now, requests_.find(id), actions);
  }
}

void RequestKeeper::send_to_executor(Instant now, Requests::iterator it, Actions& actions) {
  Request& request = it->second;
  request.state = State::kAtExecutor;
  executor_silence_.expect(now, request.executor, executors_.at(request.executor).beat, time_for(request.payload_bytes));
  actions.push_back(SendToExecutor{request.executor, it->first, request.revision, request.deadline - now});
}

void RequestKeeper::handle(Instant now, const ExecutorDown& event, Actions&) {
  executors_.erase(event.address);
  executor_silence_.forget(event.address);
  for (auto& [id, request] : requests_) {
    const bool there = request.state == State::kAtExecutor || request.state == State::kAwaitingExecutor;
    if (there && request.executor == event.address) retry(now, request, event.why);
  }
}

void RequestKeeper::handle(Instant now, const TicketCame& event, Actions& actions) {
  const auto it = requests_.find(event.ticket.id);
  if (it == requests_.end()) return;  // Cancelled or expired meanwhile; the ticket expires by itself.
  Request& request = it->second;
  if (request.state != State::kAtRouter || request.router != event.router) return;
  router_silence_.heard(now, event.router);
  leave(request);
  request.state = State::kAwaitingExecutor;
  request.executor = event.ticket.executor_address;
  ++at_executors_[request.executor];
  request.revision = event.ticket.revision;
  request.incarnation = event.ticket.executor_incarnation;
  const auto known = executors_.find(request.executor);
  if (executor_silence_.suspected(request.executor)) {
    retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", request.executor, " fell silent")));
    request.stay = true;
  } else if (known == executors_.end()) {
    executor_silence_.expect(now, request.executor, kConnectBeat);
    actions.push_back(OpenExecutor{request.executor});
  } else if (known->second.incarnation != request.incarnation) {
    retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", request.executor, " restarted")));
  } else {
    send_to_executor(now, it, actions);
  }
}

void RequestKeeper::handle(Instant now, const ReplyCame& event, Actions& actions) {
  const bool of_router = event.router < routers_.size();
  if (of_router) {
    router_silence_.heard(now, event.router);
  } else {
    executor_silence_.heard(now, event.executor);
  }
  const auto it = requests_.find(event.id);
  if (it == requests_.end()) return;
  // Whose sender cancelled is not in requests_ any more: this one was cancelled where it had been left, or by a router that lost us.
  if (absl::IsUnavailable(event.status) || absl::IsCancelled(event.status)) {
    // A late refusal from a place the request has left already says nothing about where it is now.
    const bool at_executor = it->second.state == State::kAtExecutor || it->second.state == State::kAwaitingExecutor;
    const bool elsewhere = of_router ? it->second.state == State::kAtRouter && it->second.router != event.router
                                     : !at_executor || it->second.executor != event.executor;
    if (it->second.state != State::kWaiting && !elsewhere) retry(now, it->second, event.status);
    return;
  }
  if (absl::IsResourceExhausted(event.status) && it->second.state == State::kAtExecutor && it->second.refusals < kRefusalsMax) {
    ++it->second.refusals;
    return retry(now, it->second, event.status);
  }
  if (it->second.left_at != SIZE_MAX) {  // It is at two routers, or was: whoever did not answer may stop.
    for (const size_t router : {it->second.left_at, it->second.router}) {
      if (routers_[router].up) actions.push_back(CancelAtRouter{router, event.id});
    }
  }
  finish(it, event.status, true, actions);
}

// If another router can have what a silent one has.
void RequestKeeper::leave_silent_routers(Instant now) {
  for (auto& [id, request] : requests_) {
    size_t other = 0;
    if (request.state != State::kAtRouter || !router_silence_.suspected(request.router) || !choose_router(request, other)) continue;
    leave(request);
    request.left_at = request.router;
    request.last = absl::UnavailableError("the router it was sent to fell silent");
    wait(request, now);
  }
}

void RequestKeeper::leave(Request& request) {
  if (request.state == State::kWaiting) return;
  if (request.state != State::kAtRouter) {
    const auto there = at_executors_.find(request.executor);
    if (--there->second > 0) return;
    executor_silence_.settle(request.executor);
    at_executors_.erase(there);
    return;
  }
  Router& router = routers_[request.router];
  CENOTE_CHECK(router.outstanding > 0);
  if (--router.outstanding == 0) router_silence_.settle(request.router);
}

void RequestKeeper::retry(Instant now, Request& request, const absl::Status& why) {
  leave(request);
  request.last = why;
  wait(request, now + request.backoff);
  request.backoff = std::min(request.backoff * 2, kRetryMax);
}

void RequestKeeper::wait(Request& request, Instant not_before) {
  request.state = State::kWaiting;
  request.not_before = not_before;
  waiting_.insert(request.id);
}

void RequestKeeper::finish(Requests::iterator it, absl::Status status, bool replied, Actions& actions) {
  leave(it->second);
  actions.push_back(ClientDone{it->first, std::move(status), replied});
  deadlines_.erase({it->second.deadline, it->first});
  waiting_.erase(it->first);
  requests_.erase(it);
}

bool RequestKeeper::has_room(size_t router) const {
  const Router& r = routers_[router];
  return r.up && r.outstanding < r.credits && !router_silence_.suspected(router);
}

// The router with the fewest of our requests, another one than last time if there is a choice.
bool RequestKeeper::choose_router(const Request& request, size_t& router) const {
  bool found = false;
  for (size_t i = 0; i < routers_.size(); ++i) {
    if (!has_room(i)) continue;
    const auto rank = [&](size_t r) { return std::pair(request.tried && (r == request.router) != request.stay, routers_[r].outstanding); };
    if (!found || rank(i) < rank(router)) router = i;
    found = true;
  }
  return found;
}

void RequestKeeper::send_waiting(Instant now, Actions& actions) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    const auto at = next++;
    const RequestId id = *at;
    Request& request = requests_.at(id);
    if (request.not_before > now) continue;
    size_t router = 0;
    if (!choose_router(request, router)) return;  // No router has room for anyone.
    waiting_.erase(at);
    request.router = router;
    request.tried = true;
    request.stay = false;
    request.state = State::kAtRouter;
    ++request.tries;
    ++routers_[router].outstanding;
    router_silence_.expect(now, router, routers_[router].beat, time_for(request.large ? 0 : request.payload_bytes));
    actions.push_back(SendToRouter{router, id, request.large, request.deadline - now});
  }
}

// Why nobody lets us in: what every router said of who we are. Ok: one is up, or failed by something that may pass.
absl::Status RequestKeeper::not_allowed() const {
  const auto refuses = [](const Router& r) { return !r.up && (absl::IsPermissionDenied(r.why) || absl::IsUnauthenticated(r.why)); };
  return std::ranges::all_of(routers_, refuses) ? routers_.front().why : absl::OkStatus();
}

void RequestKeeper::expire(Instant now, Actions& actions) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto it = requests_.find(deadlines_.begin()->second);
    finish(it, deadline_status(it->second), false, actions);
  }
  if (waiting_.empty()) return;
  if (const absl::Status refusal = not_allowed(); !refusal.ok()) {
    while (!waiting_.empty()) finish(requests_.find(*waiting_.begin()), refusal, false, actions);
  }
}

absl::Status RequestKeeper::deadline_status(const Request& request) const {
  if (request.tries == 0) {
    const bool any_up = std::ranges::any_of(routers_, [](const Router& r) { return r.up; });
    if (any_up) return absl::DeadlineExceededError("no router had a free slot before the deadline; send fewer requests at once");
    const auto failed = std::ranges::find_if(routers_, [](const Router& r) { return !r.why.ok(); });
    if (failed == routers_.end()) return absl::DeadlineExceededError("no router had answered before the deadline; give it longer with --deadline");
    return absl::UnavailableError(absl::StrCat("no router answered before the deadline (", routers_.size(),
                                               " tried; one said: ", failed->why.message(),
                                               "); `cenote status` shows which run"));
  }
  if (!request.last.ok()) {
    return absl::Status(absl::StatusCode::kDeadlineExceeded,
                        absl::StrCat("not answered before the deadline after ", request.tries, " tries; the last failed: ",
                                     request.last.message()));
  }
  return absl::DeadlineExceededError("not answered before the deadline; give it longer with --deadline");
}

Instant RequestKeeper::next_deadline() const {
  Instant next = std::min(router_silence_.next_deadline(), executor_silence_.next_deadline());
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  bool room = false;
  for (size_t i = 0; i < routers_.size() && !room; ++i) room = has_room(i);
  if (!room) return next;
  for (const RequestId& id : waiting_) next = std::min(next, requests_.at(id).not_before);
  return next;
}

}  // namespace cenote::node
