// A request through the router: admission, queues, dispatch, retry, deadline, answer.
#include <algorithm>

#include "base/status.h"
#include "base/units.h"
#include "node/router.h"
#include "policy/route.h"

namespace cenote::node {

using namespace router;

namespace {

// An executor that failed a request gets it again only after a pause, if no other can have it.
constexpr Duration kRetryPause = Duration::from_ms(25);

bool worth_a_retry(absl::StatusCode code) {
  return code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kResourceExhausted;
}

}  // namespace

Router::Router(RouterOptions options) : options_(std::move(options)), beats_(beat_interval(options_.silence_max)) {}

void Router::step(Instant now, std::span<Event> events, std::vector<Action>& actions) {
  suspicion_.awake(now);
  for (Event& event : events) {
    std::visit([&](auto& kind) { handle(now, kind, actions); }, event);
  }
  expire(now, actions);
  connect(now, actions);
  for (const LinkId link : suspicion_.step(now)) suspect(link, actions);
  dispatch(now, actions);
  beat(now, actions);
}

Instant Router::next_deadline() const {
  Instant next = std::min(suspicion_.next_deadline(), beats_.next_deadline());
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  if (!delayed_.empty()) next = std::min(next, delayed_.begin()->first);
  for (const auto& [name, executor] : executors_) {
    if (executor.link == 0) next = std::min(next, executor.connect_at);
  }
  return next;
}

RouterCounts Router::counts() const {
  RouterCounts counts = counts_;
  counts.outstanding = outstanding_;
  counts.queued = queued_;
  counts.stalls = suspicion_.stalls();
  return counts;
}

void Router::handle(Instant, SessionOpened& event, Actions& actions) {
  sessions_.try_emplace(event.session);
  actions.push_back(Announce{event.session, session_credits(), draining_});
}

// Its caller is gone or will ask again elsewhere: nothing is answered. Slots that he has tickets for stay his.
void Router::handle(Instant, SessionClosed& event, Actions& actions) {
  const auto session = sessions_.find(event.session);
  if (session == sessions_.end()) return;
  const std::set<RequestId> ids = session->second;
  for (const RequestId& id : ids) {
    const auto request = requests_.find(id);
    if (request->second.phase == Phase::kReserved) continue;
    cancel_at_executors(request->second, id, actions);
    forget(request);
  }
  sessions_.erase(event.session);
}

void Router::handle(Instant, DrainBegan&, Actions& actions) {
  if (draining_) return;
  draining_ = true;
  for (const auto& [session, requests] : sessions_) actions.push_back(Announce{session, session_credits(), true});
}

void Router::handle(Instant now, RequestArrived& event, Actions& actions) {
  if (!sessions_.contains(event.session)) return;
  const RequestId id = event.request->id;
  if (draining_) {
    return refuse(event.session, id, absl::UnavailableError(options_.name + " is draining; ask another router"), actions);
  }
  beats_.owe(now, event.session);
  if (reattach(now, event.session, id, actions)) return;
  if (!event.request->by_ticket && event.request->payload_bytes > kInlinePayloadBytesMax) {
    return refuse(event.session, id,
                  absl::InvalidArgumentError(str_cat("inputs of ", event.request->payload_bytes, " bytes inside the call, at most ",
                                                     kInlinePayloadBytesMax, ": ask for a ticket (by_ticket)")),
                  actions);
  }
  if (queued_ >= options_.queue_max) {
    return refuse(event.session, id,
                  absl::ResourceExhaustedError(str_cat(options_.name, ": ", queued_, " requests wait, router.queue_max is ",
                                                       options_.queue_max, "; send more slowly or add devices")),
                  actions);
  }
  const Duration budget = event.request->budget.ns > 0 ? event.request->budget : options_.deadline;
  const absl::StatusOr<Digest> revision = resolve(event.request->model);
  const bool perhaps_later = revision.status().code() == absl::StatusCode::kNotFound;
  if (!revision.ok() && !perhaps_later) return refuse(event.session, id, revision.status(), actions);

  const auto request = requests_.emplace(id, Request{}).first;
  request->second = {.message = std::move(event.request), .session = event.session, .sequence = next_sequence_++, .arrived = now,
                     .deadline = now + budget};
  sessions_[event.session].insert(id);
  deadlines_.emplace(request->second.deadline, id);
  if (perhaps_later) return delay(request, now + kUnknownNameWait);
  request->second.revision = *revision;
  enqueue(request);
}

void Router::refuse(SessionId session, const RequestId& id, absl::Status status, Actions& actions) {
  ++counts_.refused;
  actions.push_back(SendReply{session, {.id = id, .status = std::move(status)}});
}

// A request that is here already: its caller lost his session, or the executor of his ticket.
bool Router::reattach(Instant now, SessionId session, const RequestId& id, Actions& actions) {
  const auto request = requests_.find(id);
  if (request == requests_.end()) return false;
  if (const auto old = sessions_.find(request->second.session); old != sessions_.end()) old->second.erase(id);
  request->second.session = session;
  sessions_[session].insert(id);
  if (request->second.phase == Phase::kReserved) {
    cancel_at_executors(request->second, id, actions);
    --reserved_;
    const auto link = links_.find(request->second.link);
    const std::string executor = link == links_.end() ? "" : link->second->first;
    request->second.phase = Phase::kSent;  // As far as retry() is concerned: it failed there.
    retry(now, request, executor, absl::UnavailableError("the ticket for " + executor + " was of no use to the caller"), actions);
  }
  return true;
}

void Router::handle(Instant, CancelArrived& event, Actions& actions) {
  const auto request = requests_.find(event.id);
  if (request == requests_.end() || request->second.session != event.session) return;
  cancel_at_executors(request->second, event.id, actions);
  answer(request, absl::CancelledError("cancelled by the caller"), actions);
}

void Router::handle(Instant now, ReplyArrived& event, Actions& actions) {
  heard(now, event.link, actions);
  if (!freed(event.link, event.reply.id)) return;
  const auto request = requests_.find(event.reply.id);
  if (request == requests_.end()) return;
  const bool current = request->second.phase == Phase::kSent && request->second.link == event.link;
  if (!current && request->second.left_at != event.link) return;
  const auto executor = links_.find(event.link)->second;
  if (worth_a_retry(event.reply.status.code())) {
    if (!current) {  // It is elsewhere, or waits for that.
      request->second.left_at = 0;
      return;
    }
    return retry(now, request, executor->first, std::move(event.reply.status), actions);
  }
  if (event.reply.status.ok()) executor->second.readiness[request->second.revision] = Readiness::kResident;
  event.reply.waterfall.router_us = (request->second.sent - request->second.arrived).us();
  ++counts_.routed;
  if (request->second.left_at != 0) cancel_at_executors(request->second, request->first, actions);  // The one that did not reply.
  reply(request->second.session, std::move(event.reply), actions);
  forget(request);
}

// While a large reply travels, nothing else does: the caller is told how long that may take.
void Router::reply(SessionId session, InferReply reply, Actions& actions) {
  uint64_t bytes = 0;
  for (const Tensor& output : reply.outputs) bytes += output.bytes.size();
  if (time_for(bytes).ns > 0) actions.push_back(SendBeat{session, beats_.every() + time_for(bytes), true});
  actions.push_back(SendReply{session, std::move(reply)});
}

// The executor let go of a request without a reply to us: its ticket was used or expired, or the caller has asked through another
// router meanwhile and gets his reply there.
void Router::handle(Instant now, SlotFreed& event, Actions& actions) {
  heard(now, event.link, actions);
  freed(event.link, event.id);
  const auto request = requests_.find(event.id);
  if (request == requests_.end()) return;
  if (request->second.left_at == event.link) request->second.left_at = 0;
  if (request->second.link != event.link) return;
  if (request->second.phase == Phase::kReserved || request->second.phase == Phase::kSent) forget(request);
}

void Router::enqueue(Requests::iterator request) {
  request->second.phase = Phase::kQueued;
  queues_[request->second.revision].emplace(request->second.sequence, request->first);
  ++queued_;
}

void Router::delay(Requests::iterator request, Instant due) {
  request->second.phase = Phase::kDelayed;
  request->second.due = due;
  delayed_.emplace(due, request->first);
  ++queued_;
}

void Router::unqueue(Requests::iterator request) {
  if (request->second.phase == Phase::kDelayed) {
    delayed_.erase({request->second.due, request->first});
  } else {
    const auto queue = queues_.find(request->second.revision);
    queue->second.erase(request->second.sequence);
    if (queue->second.empty()) queues_.erase(queue);
  }
  --queued_;
}

// `request` is kSent and its executor failed it.
void Router::retry(Instant now, Requests::iterator request, const std::string& executor, absl::Status why, Actions& actions) {
  Request& r = request->second;
  const auto left = links_.find(r.left_at);
  const bool may_come = left != links_.end() && left->second->second.outstanding.contains(request->first);
  if (r.attempts > options_.retry_max && !may_come) {
    return answer(request, annotate(why, str_cat("given up after ", r.attempts, " attempts (router.retry_max ", options_.retry_max, ")")),
                  actions);
  }
  ++counts_.retried;
  r.last_error = std::move(why);
  if (std::find(r.tried.begin(), r.tried.end(), executor) == r.tried.end()) r.tried.push_back(executor);
  bool any = false, untried = false;
  for (const auto& [name, other] : executors_) {
    if (!other.up || other.draining || suspicion_.suspected(other.link) || !may_serve(name, r.revision)) continue;
    any = true;
    untried |= std::find(r.tried.begin(), r.tried.end(), name) == r.tried.end();
  }
  if (any && !untried) {
    delay(request, now + kRetryPause * (int64_t{1} << std::min(r.attempts, 5u)));
  } else {
    enqueue(request);
  }
}

void Router::answer(Requests::iterator request, absl::Status status, Actions& actions) {
  actions.push_back(SendReply{request->second.session,
                              {.id = request->first, .status = std::move(status), .revision = request->second.revision}});
  forget(request);
}

void Router::forget(Requests::iterator request) {
  Request& r = request->second;
  if (r.phase == Phase::kQueued || r.phase == Phase::kDelayed) unqueue(request);
  if (r.phase == Phase::kReserved) --reserved_;
  deadlines_.erase({r.deadline, request->first});
  if (const auto session = sessions_.find(r.session); session != sessions_.end()) session->second.erase(request->first);
  requests_.erase(request);
}

// Wherever it may still be.
void Router::cancel_at_executors(const Request& request, const RequestId& id, Actions& actions) {
  const bool there = request.phase == Phase::kSent || request.phase == Phase::kReserved;
  for (const LinkId link : {there ? request.link : 0, request.left_at}) {
    const auto found = links_.find(link);
    if (found != links_.end() && found->second->second.outstanding.contains(id)) actions.push_back(SendCancel{link, id});
  }
}

void Router::expire(Instant now, Actions& actions) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto request = requests_.find(deadlines_.begin()->second);
    Request& r = request->second;
    const std::string waited = format_duration(r.deadline - r.arrived);
    cancel_at_executors(r, request->first, actions);
    if (r.phase == Phase::kReserved) {
      forget(request);
    } else if (r.phase == Phase::kSent) {
      answer(request, absl::DeadlineExceededError(str_cat("deadline of ", waited, " passed while an executor had the request")), actions);
    } else {
      const std::string last = r.last_error.ok() ? "" : str_cat("; last error: ", to_std(r.last_error.message()));
      answer(request, absl::DeadlineExceededError(str_cat("deadline of ", waited, " passed while the request waited for an executor that "
                                                          "may serve '", r.message->model, "'", last)),
             actions);
    }
  }
  while (!delayed_.empty() && delayed_.begin()->first <= now) {
    const auto request = requests_.find(delayed_.begin()->second);
    if (request->second.revision.empty()) {
      const absl::StatusOr<Digest> revision = resolve(request->second.message->model);
      if (!revision.ok()) {
        answer(request, revision.status(), actions);
        continue;
      }
      request->second.revision = *revision;
    }
    unqueue(request);
    enqueue(request);
  }
}

// A newer view may know the names that the last one did not.
void Router::resolve_waiting(Instant, Actions&) {
  std::vector<RequestId> found;
  for (const auto& [due, id] : delayed_) {
    if (requests_.at(id).revision.empty() && resolve(requests_.at(id).message->model).ok()) found.push_back(id);
  }
  for (const RequestId& id : found) {
    const auto request = requests_.find(id);
    unqueue(request);
    request->second.revision = *resolve(request->second.message->model);
    enqueue(request);
  }
}

// Oldest first; a revision whose executors are all busy does not hold up the others.
void Router::dispatch(Instant now, Actions& actions) {
  if (queues_.empty()) return;
  std::set<std::pair<uint64_t, Digest>> heads;
  for (const auto& [revision, queue] : queues_) heads.emplace(queue.begin()->first, revision);
  while (!heads.empty() && outstanding_ < options_.outstanding_max) {
    const auto [sequence, revision] = *heads.begin();
    heads.erase(heads.begin());
    if (!dispatch_one(now, requests_.find(queues_[revision].begin()->second), actions)) continue;
    if (const auto queue = queues_.find(revision); queue != queues_.end()) heads.emplace(queue->second.begin()->first, revision);
  }
}

// False if it stays at the head of its queue.
bool Router::dispatch_one(Instant now, Requests::iterator request, Actions& actions) {
  Request& r = request->second;
  std::vector<policy::RouteCandidate> candidates;
  std::vector<Executors::iterator> who;
  bool held_back = false;
  for (auto entry = executors_.begin(); entry != executors_.end(); ++entry) {
    const Executor& executor = entry->second;
    if (!executor.up || executor.draining || suspicion_.suspected(executor.link) || !may_serve(entry->first, r.revision)) continue;
    if (executor.outstanding.contains(request->first)) {  // It has not let go of an earlier attempt; a second would be a duplicate.
      held_back = true;
      continue;
    }
    const auto readiness = executor.readiness.find(r.revision);
    candidates.push_back({.credits = executor.credits, .outstanding = static_cast<uint32_t>(executor.outstanding.size()),
                          .readiness = readiness == executor.readiness.end() ? Readiness::kNone : readiness->second,
                          .tried = std::find(r.tried.begin(), r.tried.end(), entry->first) != r.tried.end()});
    who.push_back(entry);
  }
  const std::optional<size_t> choice = policy::choose_executor(candidates, turn_);
  if (!choice) {
    if (!held_back) return false;
    unqueue(request);
    delay(request, now + kRetryPause);
    return true;
  }
  ++turn_;
  const auto& executor = who[*choice];
  unqueue(request);
  executor->second.outstanding.insert(request->first);
  ++outstanding_;
  suspicion_.expect(now, executor->second.link, executor->second.beat, time_for(r.message->by_ticket ? 0 : r.message->payload_bytes));
  ++r.attempts;
  r.link = executor->second.link;
  r.sent = now;
  if (!r.message->by_ticket) {
    r.phase = Phase::kSent;
    actions.push_back(SendRequest{r.link, r.message, r.revision, r.deadline - now});
    return true;
  }
  r.phase = Phase::kReserved;
  ++reserved_;
  ++counts_.routed;
  const Duration life = std::min(kTicketLife, r.deadline - now);
  actions.push_back(SendReserve{r.link, request->first, r.revision, life});
  actions.push_back(SendTicket{r.session, {.id = request->first, .executor_address = executor->second.address,
                                           .executor_incarnation = executor->second.incarnation, .revision = r.revision,
                                           .expires_in = life}});
  return true;
}

}  // namespace cenote::node
