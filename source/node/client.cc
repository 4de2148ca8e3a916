#include "node/client.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::node {

RequestKeeper::RequestKeeper(size_t routers) : routers_(routers) { CENOTE_CHECK(routers > 0); }

void RequestKeeper::step(Instant now, std::span<const ClientEvent> events, Actions& actions) {
  for (const ClientEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
  expire(now, actions);
  send_waiting(now, actions);
}

void RequestKeeper::handle(Instant, const ClientSubmit& event, Actions&) {
  const auto [it, inserted] = requests_.try_emplace(event.id);
  CENOTE_CHECK(inserted);
  it->second.deadline = event.deadline;
  it->second.large = std::max(event.payload_bytes, event.reply_bytes) > kInlinePayloadBytesMax;
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
}

void RequestKeeper::handle(Instant, const RouterCredits& event, Actions&) { routers_[event.router].credits = event.credits; }

void RequestKeeper::handle(Instant now, const RouterDown& event, Actions&) {
  Router& router = routers_[event.router];
  router.up = false;
  router.why = event.why;
  for (auto& [id, request] : requests_) {
    // With the payload at the executor already, its reply comes from there: the router may be forgotten.
    if (request.router == event.router && request.state == State::kAtRouter) retry(now, request, event.why);
  }
  CENOTE_CHECK(router.outstanding == 0);
}

void RequestKeeper::handle(Instant now, const ExecutorUp& event, Actions& actions) {
  executors_[event.address] = event.incarnation;
  for (auto& [id, request] : requests_) {
    if (request.state != State::kAwaitingExecutor || request.executor != event.address) continue;
    if (request.incarnation != event.incarnation) {
      retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", event.address, " restarted")));
      continue;
    }
    request.state = State::kAtExecutor;
    actions.push_back(SendToExecutor{event.address, id, request.revision, request.deadline - now});
  }
}

void RequestKeeper::handle(Instant now, const ExecutorDown& event, Actions&) {
  executors_.erase(event.address);
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
  leave_router(request);
  request.state = State::kAwaitingExecutor;
  request.executor = event.ticket.executor_address;
  request.revision = event.ticket.revision;
  request.incarnation = event.ticket.executor_incarnation;
  const auto known = executors_.find(request.executor);
  if (known == executors_.end()) {
    actions.push_back(OpenExecutor{request.executor});
  } else if (known->second != request.incarnation) {
    retry(now, request, absl::UnavailableError(absl::StrCat("executor at ", request.executor, " restarted")));
  } else {
    request.state = State::kAtExecutor;
    actions.push_back(SendToExecutor{request.executor, it->first, request.revision, request.deadline - now});
  }
}

void RequestKeeper::handle(Instant now, const ReplyCame& event, Actions& actions) {
  const auto it = requests_.find(event.id);
  if (it == requests_.end()) return;
  if (absl::IsUnavailable(event.status)) {
    // A late refusal from a place the request has left already says nothing about where it is now.
    if (it->second.state != State::kWaiting) retry(now, it->second, event.status);
    return;
  }
  if (absl::IsResourceExhausted(event.status) && it->second.state == State::kAtExecutor && it->second.refusals < kRefusalsMax) {
    ++it->second.refusals;
    return retry(now, it->second, event.status);
  }
  finish(it, event.status, true, actions);
}

void RequestKeeper::leave_router(Request& request) {
  if (request.state != State::kAtRouter) return;
  Router& router = routers_[request.router];
  CENOTE_CHECK(router.outstanding > 0);
  --router.outstanding;
}

void RequestKeeper::retry(Instant now, Request& request, const absl::Status& why) {
  leave_router(request);
  request.state = State::kWaiting;
  request.last = why;
  request.not_before = now + request.backoff;
  request.backoff = std::min(request.backoff * 2, kRetryMax);
}

void RequestKeeper::finish(Requests::iterator it, absl::Status status, bool replied, Actions& actions) {
  leave_router(it->second);
  actions.push_back(ClientDone{it->first, std::move(status), replied});
  requests_.erase(it);
}

// The router with the fewest of our requests, another one than last time if there is a choice.
bool RequestKeeper::choose_router(const Request& request, size_t& router) const {
  bool found = false;
  for (size_t i = 0; i < routers_.size(); ++i) {
    if (!routers_[i].up || routers_[i].outstanding >= routers_[i].credits) continue;
    const auto rank = [&](size_t r) { return std::pair(request.tried && r == request.router, routers_[r].outstanding); };
    if (!found || rank(i) < rank(router)) router = i;
    found = true;
  }
  return found;
}

void RequestKeeper::send_waiting(Instant now, Actions& actions) {
  for (auto& [id, request] : requests_) {
    if (request.state != State::kWaiting || request.not_before > now) continue;
    size_t router = 0;
    if (!choose_router(request, router)) continue;
    request.router = router;
    request.tried = true;
    request.state = State::kAtRouter;
    ++request.tries;
    ++routers_[router].outstanding;
    actions.push_back(SendToRouter{router, id, request.large, request.deadline - now});
  }
}

// Why nobody lets us in: what every router said of who we are. Ok: one is up, or failed by something that may pass.
absl::Status RequestKeeper::not_allowed() const {
  const auto refuses = [](const Router& r) { return !r.up && (absl::IsPermissionDenied(r.why) || absl::IsUnauthenticated(r.why)); };
  return std::ranges::all_of(routers_, refuses) ? routers_.front().why : absl::OkStatus();
}

void RequestKeeper::expire(Instant now, Actions& actions) {
  const absl::Status refusal = not_allowed();
  for (auto it = requests_.begin(); it != requests_.end();) {
    const auto next = std::next(it);
    if (it->second.deadline <= now) {
      finish(it, deadline_status(it->second), false, actions);
    } else if (!refusal.ok() && it->second.state == State::kWaiting) {
      finish(it, refusal, false, actions);
    }
    it = next;
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
  Instant next = Instant::infinite_future();
  const bool room = std::ranges::any_of(routers_, [](const Router& r) { return r.up && r.outstanding < r.credits; });
  for (const auto& [id, request] : requests_) {
    next = std::min(next, request.deadline);
    if (room && request.state == State::kWaiting) next = std::min(next, request.not_before);
  }
  return next;
}

}  // namespace cenote::node
