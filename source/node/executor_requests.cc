// A request at its executor: admission, duplicates, reservations, deadline, reply.
#include <algorithm>

#include "base/status.h"
#include "base/units.h"
#include "node/executor.h"

namespace cenote::node {

using namespace executor;

Executor::Executor(ExecutorOptions options) : options_(std::move(options)), beats_(beat_interval(options_.silence_max)) {}

void Executor::step(Instant now, std::span<Event> events, std::vector<Action>& actions) {
  ++steps_;
  agent_silence_.awake(now);
  for (Event& event : events) {
    std::visit([&](auto& kind) { handle(now, kind, actions); }, event);
  }
  expire(now, actions);
  schedule(now, actions);
  watch_agent(now, actions);
  beats_.step(
      now, [this](SessionId session) { return waits(session); },
      [&](SessionId session, Duration next) { actions.push_back(SendBeat{session, next}); });
}

void Executor::handle(Instant now, AgentBeat& event, Actions& actions) {
  agent_silence_.expect(now, 0, event.next);
  if (!agent_silence_.heard(now, 0, event.next)) return;
  actions.push_back(Noticed{false});
  for (auto& [id, request] : requests_) request.stuck_told = false;
}

void Executor::watch_agent(Instant now, Actions& actions) {
  if (!agent_silence_.step(now).empty()) actions.push_back(Noticed{true});
  if (!agent_silence_.any_suspected()) return;
  for (auto& [id, request] : requests_) {
    if (request.phase == Phase::kReserved || request.holder == 0 || request.holder != request.caller || request.stuck_told) continue;
    const auto revision = revisions_.find(request.revision);
    if (revision != revisions_.end() && revision->second.hold == Hold::kOpen && revision->second.complete) continue;
    request.stuck_told = true;
    actions.push_back(SendStuck{request.holder, id});
  }
}

// For a reply or for the end of a slot.
bool Executor::waits(SessionId id) const {
  const auto session = sessions_.find(id);
  if (session == sessions_.end()) return false;
  if (session->second.outstanding > 0) return true;
  return std::any_of(requests_.begin(), requests_.end(), [&](const auto& entry) { return entry.second.caller == id; });
}

Instant Executor::next_deadline() const {
  Instant next = std::min(beats_.next_deadline(), agent_silence_.next_deadline());
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  if (!remembered_order_.empty()) next = std::min(next, remembered_order_.front().first);
  for (const auto& [revision, failure] : failed_) next = std::min(next, failure.again);
  return next;
}

void Executor::handle(Instant, SessionOpened& event, Actions& actions) {
  sessions_.try_emplace(event.session);
  actions.push_back(Announce{event.session, options_.credits, draining_});
}

// Work that began, or that a router passed on, goes on: its caller will name it again through another session, and finds it running or
// its reply remembered. A payload of a caller who is gone is not kept waiting.
void Executor::handle(Instant now, SessionClosed& event, Actions& actions) {
  if (sessions_.erase(event.session) == 0) return;
  std::vector<RequestId> dropped;
  for (auto& [id, request] : requests_) {
    const bool ticket = request.caller != request.holder;
    if (request.holder == event.session) request.holder = 0;
    if (request.caller != event.session) continue;
    request.caller = 0;
    if (ticket && request.phase == Phase::kQueued) dropped.push_back(id);
  }
  for (const RequestId& id : dropped) fail(now, requests_.find(id), absl::CancelledError("the caller's stream ended"), actions);
}

void Executor::handle(Instant now, DrainBegan&, Actions& actions) {
  if (draining_) return;
  draining_ = true;
  for (const auto& [session, state] : sessions_) actions.push_back(Announce{session, options_.credits, true});
  std::vector<RequestId> reserved;
  for (const auto& [id, request] : requests_) {
    if (request.phase == Phase::kReserved) reserved.push_back(id);
  }
  for (const RequestId& id : reserved) fail(now, requests_.find(id), absl::UnavailableError(options_.name + " is draining"), actions);
}

absl::Status Executor::admit(SessionId session, uint64_t bytes) const {
  if (draining_) return absl::UnavailableError(options_.name + " is draining");
  const Session& from = sessions_.at(session);
  if (from.outstanding >= options_.credits) {
    return absl::ResourceExhaustedError(str_cat(options_.name, ": this session has ", from.outstanding, " requests here, its credits are ",
                                                options_.credits));
  }
  const size_t waiting = requests_.size() - running_.size();
  if (waiting >= options_.queue_max) {
    return absl::ResourceExhaustedError(
        str_cat(options_.name, ": ", waiting, " requests wait, agent.device.queue_max is ", options_.queue_max));
  }
  if (held_bytes_ + bytes > options_.held_bytes_max) {
    return absl::ResourceExhaustedError(str_cat(options_.name, ": waiting payloads have ", format_bytes(held_bytes_), ", with this one's ",
                                                format_bytes(bytes), " more than ", format_bytes(options_.held_bytes_max)));
  }
  return absl::OkStatus();
}

void Executor::set_holder(Requests::iterator request, SessionId session) {
  if (const auto old = sessions_.find(request->second.holder); old != sessions_.end()) --old->second.outstanding;
  request->second.holder = session;
  if (const auto found = sessions_.find(session); found != sessions_.end()) ++found->second.outstanding;
}

void Executor::handle(Instant now, RequestArrived& event, Actions& actions) {
  if (!sessions_.contains(event.session)) return;
  beats_.owe(now, event.session);
  InferRequest& message = *event.request;
  const auto refuse = [&](absl::Status status) {
    actions.push_back(SendReply{event.session, {.id = message.id, .status = std::move(status), .revision = message.revision,
                                                .executor = options_.name}});
  };
  auto request = requests_.find(message.id);
  if (const auto done = remembered_.find(message.id); done != remembered_.end() && done->second.reply) {
    InferReply reply = *done->second.reply;
    if (request == requests_.end()) {
      actions.push_back(SendReply{event.session, std::move(reply)});
    } else {
      request->second.caller = event.session;
      finish(now, request, std::move(reply), actions);
    }
    return;
  }
  if (message.revision.empty()) return refuse(absl::InvalidArgumentError("a request for an executor names its revision: send it to a router"));
  if (message.budget.ns <= 0) return refuse(absl::DeadlineExceededError("the deadline had passed when the request came"));
  if (message.by_ticket) {
    for (const Tensor& input : message.inputs) {
      if (absl::Status status = check_tensor(input); !status.ok()) return refuse(std::move(status));
    }
  }
  if (request != requests_.end() && attach(now, event.session, message, request, actions)) return;
  if (request == requests_.end()) {
    if (absl::Status status = admit(event.session, message.payload_bytes); !status.ok()) return refuse(std::move(status));
    request = requests_.emplace(message.id, Request{}).first;
    request->second.unreserved = message.by_ticket;
    set_holder(request, event.session);
  } else if (held_bytes_ + message.payload_bytes > options_.held_bytes_max) {
    return fail(now, request, absl::ResourceExhaustedError(str_cat(options_.name, ": no memory for the payload now")), actions);
  }
  request->second.caller = event.session;
  queue(now, request, std::move(event.request));
}

// The id is here already. False: it was reserved, and this is its payload.
bool Executor::attach(Instant, SessionId session, InferRequest& message, Requests::iterator request, Actions& actions) {
  Request& r = request->second;
  if (r.phase == Phase::kReserved) return false;
  r.cancelled = false;  // By a router that lost its caller: he is here again.
  if (message.by_ticket) {
    r.caller = session;  // The holder stays who reserved the slot.
    return true;
  }
  if (r.holder != session) {
    if (r.holder != 0) actions.push_back(SendFreed{r.holder, message.id, absl::CancelledError("the caller asked again elsewhere")});
    set_holder(request, session);
  }
  r.caller = session;
  return true;
}

void Executor::queue(Instant now, Requests::iterator request, std::shared_ptr<InferRequest> message) {
  Request& r = request->second;
  if (r.phase == Phase::kReserved) deadlines_.erase({r.deadline, request->first});
  r.phase = Phase::kQueued;
  r.sequence = next_sequence_++;
  r.revision = message->revision;
  r.bytes = message->payload_bytes;
  r.arrived = now;
  r.opened = now;
  r.deadline = now + message->budget;
  r.message = std::move(message);
  held_bytes_ += r.bytes;
  const auto revision = revisions_.find(r.revision);
  const bool complete = revision != revisions_.end() && revision->second.hold == Hold::kOpen && revision->second.complete;
  r.loading = !complete;
  if (complete) r.temperature = revision->second.runs > 0 ? Temperature::kResident : Temperature::kCached;
  queue_.emplace(r.sequence, request->first);
  deadlines_.emplace(r.deadline, request->first);
}

void Executor::handle(Instant now, ReserveArrived& event, Actions& actions) {
  if (!sessions_.contains(event.session)) return;
  beats_.owe(now, event.session);
  if (const auto known = requests_.find(event.id); known != requests_.end()) {
    if (std::exchange(known->second.unreserved, false)) {
      set_holder(known, event.session);
    } else if (known->second.holder != event.session) {
      if (known->second.holder != 0) {
        actions.push_back(SendFreed{known->second.holder, event.id, absl::CancelledError("the caller asked again elsewhere")});
      }
      const bool own = known->second.caller == known->second.holder;
      set_holder(known, event.session);
      if (own) known->second.caller = 0;
    }
    return;
  }
  if (const auto ended = remembered_.find(event.id); ended != remembered_.end() && std::exchange(ended->second.reservation_due, false)) {
    actions.push_back(SendFreed{event.session, event.id, absl::OkStatus()});
    return;
  }
  if (absl::Status status = admit(event.session, 0); !status.ok()) {
    actions.push_back(SendFreed{event.session, event.id, std::move(status)});
    return;
  }
  const auto request = requests_.emplace(event.id, Request{}).first;
  request->second.phase = Phase::kReserved;
  request->second.revision = event.revision;
  request->second.deadline = now + event.expires_in;
  deadlines_.emplace(request->second.deadline, event.id);
  set_holder(request, event.session);
}

void Executor::handle(Instant now, CancelArrived& event, Actions& actions) {
  const auto request = requests_.find(event.id);
  if (request == requests_.end()) return;
  Request& r = request->second;
  if (r.holder != event.session && r.caller != event.session) return;  // It answers to somebody else by now.
  if (r.phase == Phase::kRunning) {
    r.cancelled = true;  // An operator cannot be stopped; the result is not sent.
    return;
  }
  fail(now, request, absl::CancelledError("cancelled by the caller"), actions);
}

void Executor::handle(Instant now, RunEnded& event, Actions& actions) {
  CENOTE_CHECK(!running_.empty() && running_.front() == event.id);
  running_.pop_front();
  computing_ = !running_.empty();
  if (!computing_) computing_revision_.reset();
  const auto request = requests_.find(event.id);
  CENOTE_CHECK(request != requests_.end() && request->second.phase == Phase::kRunning);
  const Request& r = request->second;
  const auto revision = revisions_.find(r.revision);
  CENOTE_CHECK(revision != revisions_.end());
  const absl::StatusCode code = event.status.code();
  if (event.status.ok()) {
    if (revision->second.runs++ == 0) readiness_changed_ = true;
    revision->second.compute = Duration::from_us(event.stages.compute_us);  // One that failed says nothing of how long others take.
  }
  InferReply reply{.id = event.id, .revision = r.revision, .executor = options_.name, .waterfall = event.stages};
  Waterfall& w = reply.waterfall;
  w.temperature = r.temperature;
  w.resolve_us = (r.opened - r.arrived).us();
  w.queue_us = (r.began - r.opened).us();
  w.total_us = (now - r.arrived).us();
  if (code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDataLoss) {
    // Its weights cannot be had here, now. Opening it anew asks the agent anew.
    reply.status = absl::UnavailableError(str_cat(options_.name, ": ", to_std(event.status.message())));
    if (revision->second.hold == Hold::kOpen && !computing_) close(revision, actions);
    if (computing_) revision->second.evict = true;  // Others run on it.
  } else {
    reply.status = std::move(event.status);
  }
  if (reply.status.ok()) reply.status = check_reply(event.outputs);
  if (r.cancelled) reply.status = absl::CancelledError("cancelled by the caller while it ran");
  if (reply.status.ok()) {
    reply.outputs = std::move(event.outputs);
    ++served_;
  }
  finish(now, request, std::move(reply), actions);
}

// Not kResourceExhausted: another executor would answer the same.
absl::Status Executor::check_reply(std::span<const Tensor> outputs) const {
  uint64_t bytes = 0;
  for (const Tensor& output : outputs) bytes += output.bytes.size();
  if (bytes <= options_.payload_bytes_max) return absl::OkStatus();
  return absl::FailedPreconditionError(str_cat(options_.name, ": outputs of ", format_bytes(bytes), ", limits.payload_max is ",
                                               format_bytes(options_.payload_bytes_max), ": ask with a smaller batch, or raise it"));
}

// Replies to the caller, frees the slot at its holder, forgets.
void Executor::finish(Instant now, Requests::iterator request, InferReply reply, Actions& actions) {
  Request& r = request->second;
  if (r.phase == Phase::kQueued) queue_.erase(r.sequence);
  if (r.phase != Phase::kRunning) deadlines_.erase({r.deadline, request->first});
  held_bytes_ -= r.bytes;
  remember(now, reply, r.unreserved);
  if (r.holder != 0 && r.holder != r.caller) actions.push_back(SendFreed{r.holder, request->first, reply.status});
  if (r.caller != 0) {
    uint64_t bytes = 0;
    for (const Tensor& output : reply.outputs) bytes += output.bytes.size();
    // While a large reply travels, nothing else does: the caller is told how long that may take.
    if (time_for(bytes).ns > 0) actions.push_back(SendBeat{r.caller, beats_.every() + time_for(bytes), true});
    actions.push_back(SendReply{r.caller, std::move(reply)});
  }
  set_holder(request, 0);
  requests_.erase(request);
}

void Executor::fail(Instant now, Requests::iterator request, absl::Status status, Actions& actions) {
  InferReply reply{.id = request->first, .status = std::move(status), .revision = request->second.revision, .executor = options_.name};
  if (request->second.phase == Phase::kQueued) {
    reply.waterfall.queue_us = reply.waterfall.total_us = (now - request->second.arrived).us();
    reply.waterfall.temperature = request->second.temperature;
  }
  finish(now, request, std::move(reply), actions);
}

void Executor::remember(Instant now, const InferReply& reply, bool reservation_due) {
  size_t bytes = 0;
  for (const Tensor& output : reply.outputs) bytes += output.bytes.size();
  const bool keep = reply.status.ok() && bytes <= kRememberedBytesMax;
  if (!keep && !reservation_due) return;
  if (remembered_.size() >= kRememberedMax) {
    remembered_.erase(remembered_order_.front().second);
    remembered_order_.pop_front();
  }
  const auto [entry, inserted] = remembered_.try_emplace(reply.id);
  if (keep) entry->second.reply = reply;
  entry->second.reservation_due |= reservation_due;
  if (inserted) remembered_order_.emplace_back(now + kReplyMemory, reply.id);
}

void Executor::expire(Instant now, Actions& actions) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto request = requests_.find(deadlines_.begin()->second);
    const Request& r = request->second;
    if (r.phase == Phase::kReserved) {
      fail(now, request, absl::DeadlineExceededError(options_.name + ": no payload came while its slot was held"), actions);
    } else {
      fail(now, request, absl::DeadlineExceededError(str_cat(options_.name, ": the deadline passed after ", format_duration(now - r.arrived),
                                                             " in the queue")),
           actions);
    }
  }
  while (!remembered_order_.empty() && remembered_order_.front().first <= now) {
    remembered_.erase(remembered_order_.front().second);
    remembered_order_.pop_front();
  }
}

}  // namespace cenote::node
