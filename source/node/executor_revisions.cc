// What an executor holds: opening, readiness, eviction, and what the computing thread does next.
#include <algorithm>

#include "base/status.h"
#include "node/executor.h"

namespace cenote::node {

using namespace executor;

namespace {

// The weights could not be had now; another time, or elsewhere, they may. kNotFound is an agent's that has not heard of the revision: its
// controller may be out of its reach, or the router ahead of it. Whether a model exists is the router's to say.
bool weights_lost(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDataLoss(status) || absl::IsDeadlineExceeded(status) || absl::IsNotFound(status);
}

}  // namespace

void Executor::handle(Instant, PrefetchChanged& event, Actions&) {
  prefetch_ = std::move(event.revisions);
  assigned_ = {prefetch_.begin(), prefetch_.end()};
  readiness_changed_ = true;
  failed_.clear();
  for (const Digest& revision : prefetch_) {
    if (const auto held = revisions_.find(revision); held != revisions_.end()) held->second.evict = false;
  }
}

void Executor::handle(Instant, EvictAsked& event, Actions&) {
  std::erase(prefetch_, event.revision);
  assigned_.erase(event.revision);
  failed_.erase(event.revision);
  if (const auto held = revisions_.find(event.revision); held != revisions_.end()) held->second.evict = true;
}

void Executor::handle(Instant now, RevisionOpened& event, Actions& actions) {
  const auto entry = revisions_.find(event.revision);
  CENOTE_CHECK(entry != revisions_.end() && entry->second.hold == Hold::kOpening);
  Revision& revision = entry->second;
  readiness_changed_ = true;
  if (!event.status.ok()) {
    const bool urgent = revision.urgent;
    revisions_.erase(entry);  // The role holds nothing of what it could not open.
    if (event.status.code() == absl::StatusCode::kCancelled) return;  // A prefetch called off; whoever waits with a request opens it anew.
    if (event.status.code() == absl::StatusCode::kResourceExhausted) {
      waits_for_room_.insert(event.revision);
      if (urgent) short_of_room_.insert(event.revision);
      if (make_room(event.revision, urgent, actions)) return;
      waits_for_room_.erase(event.revision);
    }
    return note_failure(now, event.revision, event.status, actions);
  }
  failed_.erase(event.revision);
  short_of_room_.erase(event.revision);
  revision.hold = Hold::kOpen;
  revision.all_cached = event.all_cached;
  revision.used = steps_;
  for (auto& [id, request] : requests_) {
    if (request.revision != event.revision || request.phase != Phase::kQueued) continue;
    request.opened = now;
    if (request.temperature == Temperature::kUnknown) {
      request.temperature = event.all_cached ? Temperature::kCached : Temperature::kCold;
    }
  }
}

void Executor::handle(Instant now, ReadinessChanged& event, Actions& actions) {
  const auto entry = revisions_.find(event.revision);
  if (entry == revisions_.end() || entry->second.hold != Hold::kOpen) return;
  Revision& revision = entry->second;
  revision.readiness = event.readiness;
  readiness_changed_ = true;
  revision.complete = event.readiness == Readiness::kMapped || event.readiness == Readiness::kResident;
  if (event.readiness != Readiness::kFailed) return;
  if (computing_revision_ == event.revision) return;  // The run's gate says so too; it closes the revision when it ends.
  note_failure(now, event.revision, event.status, actions);
  close(entry, actions);
}

void Executor::handle(Instant, RevisionClosed& event, Actions&) {
  const auto entry = revisions_.find(event.revision);
  CENOTE_CHECK(entry != revisions_.end() && entry->second.hold == Hold::kClosing);
  revisions_.erase(entry);
  waits_for_room_.clear();  // All may try again.
}

void Executor::handle(Instant now, WarmUpEnded& event, Actions& actions) {
  computing_ = false;
  computing_revision_.reset();
  const auto entry = revisions_.find(event.revision);
  CENOTE_CHECK(entry != revisions_.end());
  entry->second.warm = true;
  readiness_changed_ = true;
  // A model may well refuse the zeros that it is warmed up with (a division, an inverse): requests bring their own inputs.
  if (!weights_lost(event.status)) return;
  note_failure(now, event.revision, event.status, actions);
  if (entry->second.hold == Hold::kOpen) close(entry, actions);
}

// Weights may be there again soon; a graph that does not load will not load the next time.
void Executor::note_failure(Instant now, const Digest& revision, const absl::Status& status, Actions& actions) {
  failed_[revision] = {status, weights_lost(status) ? now + kReopenAfter : Instant::infinite_future()};
  fail_waiting(now, revision, status, actions);
}

void Executor::fail_waiting(Instant now, const Digest& revision, const absl::Status& status, Actions& actions) {
  // Other executors may well have the bytes or the room: say so in the codes that routers try elsewhere on. Bytes may come back, so
  // callers ask again until their deadline; where no executor has room, that is their answer.
  const absl::StatusCode code = status.code();
  const bool bytes = weights_lost(status);
  const bool room = code == absl::StatusCode::kResourceExhausted || code == absl::StatusCode::kOutOfRange;
  const absl::Status said = annotate(bytes  ? absl::UnavailableError(status.message())
                                     : room ? absl::ResourceExhaustedError(status.message())
                                            : status,
                                     options_.name);
  std::vector<RequestId> waiting;
  for (const auto& [sequence, id] : queue_) {
    if (requests_.at(id).revision == revision) waiting.push_back(id);
  }
  for (const RequestId& id : waiting) fail(now, requests_.find(id), said, actions);
}

bool Executor::idle(const Digest& revision) const {
  if (computing_revision_ == revision) return false;
  return std::none_of(queue_.begin(), queue_.end(), [&](const auto& entry) { return requests_.at(entry.second).revision == revision; });
}

void Executor::close(Revisions::iterator revision, Actions& actions) {
  revision->second.hold = Hold::kClosing;
  readiness_changed_ = true;
  actions.push_back(CloseRevision{revision->first});
}

// True: something is being closed, or will be; try again then.
bool Executor::make_room(const Digest& wanted, bool urgent, Actions& actions) {
  auto victim = revisions_.end();
  bool busy = false;
  for (auto entry = revisions_.begin(); entry != revisions_.end(); ++entry) {
    if (entry->second.hold == Hold::kClosing) return true;
    if (entry->first == wanted || entry->second.hold != Hold::kOpen) continue;
    if (!idle(entry->first)) {
      busy = true;
      continue;
    }
    const bool assigned = assigned_.contains(entry->first);
    if (assigned && !urgent) continue;
    if (victim == revisions_.end() || entry->second.used < victim->second.used) victim = entry;
  }
  if (victim != revisions_.end()) {
    close(victim, actions);
    return true;
  }
  return urgent && busy;  // What runs now becomes idle, and then room.
}

// Requests first, in order of arrival, then what is assigned.
void Executor::open_wanted(Instant now, Actions& actions) {
  std::erase_if(failed_, [now](const auto& entry) { return entry.second.again <= now; });
  const auto open = [&](const Digest& revision, bool urgent) {
    const auto held = revisions_.find(revision);
    if (held == revisions_.end()) {
      revisions_[revision] = {.urgent = urgent, .used = steps_};
      actions.push_back(OpenRevision{revision, urgent});
    } else if (urgent && !held->second.urgent && held->second.hold == Hold::kOpening) {
      held->second.urgent = true;
      actions.push_back(OpenRevision{revision, true});
    }
  };
  for (const auto& [sequence, id] : queue_) {
    const Digest& revision = requests_.at(id).revision;
    if (!waits_for_room_.contains(revision)) open(revision, true);
  }
  std::erase_if(short_of_room_, [this](const Digest& revision) { return idle(revision); });  // Nobody waits for it any more.
  // What was closed for a request would come back at once, and the request would never find room enough.
  if (draining_ || !short_of_room_.empty()) return;
  for (const Digest& revision : prefetch_) {
    if (!failed_.contains(revision) && !waits_for_room_.contains(revision)) open(revision, false);
  }
}

// Now, or behind what runs: more of the same, all of it short, and nothing waits for the device to be idle.
bool Executor::may_run(const Revision& revision, const Digest& digest) const {
  if (!computing_) return true;
  return computing_revision_ == digest && !running_.empty() && running_.size() < kAheadMax && revision.complete && !revision.evict &&
         revision.compute <= kAheadComputeMax && waits_for_room_.empty() && short_of_room_.empty();
}

void Executor::run(Instant now, Requests::iterator entry, Revision& revision, Actions& actions) {
  Request& request = entry->second;
  revision.used = steps_;
  revision.warm = true;
  request.phase = Phase::kRunning;
  request.began = now;
  deadlines_.erase({request.deadline, entry->first});
  computing_ = true;
  computing_revision_ = request.revision;
  running_.push_back(entry->first);
  actions.push_back(RunModel{entry->first, request.revision, request.message, request.deadline, request.loading});
  queue_.erase(request.sequence);
}

void Executor::schedule(Instant now, Actions& actions) {
  for (auto entry = revisions_.begin(); entry != revisions_.end(); ++entry) {
    if (entry->second.evict && entry->second.hold == Hold::kOpen && idle(entry->first)) close(entry, actions);
  }
  if (!waits_for_room_.empty() && !computing_) {
    const std::set<Digest> waiting = waits_for_room_;
    for (const Digest& revision : waiting) {
      if (make_room(revision, true, actions)) continue;
      waits_for_room_.erase(revision);  // Nothing left to close: let it fail by itself.
    }
  }
  open_wanted(now, actions);
  for (auto next = queue_.begin(); next != queue_.end();) {
    const auto request = requests_.find((next++)->second);
    const auto entry = revisions_.find(request->second.revision);
    if (entry == revisions_.end() || entry->second.hold != Hold::kOpen) continue;
    if (!may_run(entry->second, entry->first)) return;
    run(now, request, entry->second, actions);
  }
  if (computing_) return;
  if (!queue_.empty()) return;  // Something is being opened for a request; it goes before warming up.
  for (const Digest& revision : prefetch_) {
    const auto entry = revisions_.find(revision);
    if (entry == revisions_.end() || entry->second.hold != Hold::kOpen || !entry->second.complete || entry->second.warm) continue;
    computing_ = true;
    computing_revision_ = revision;
    actions.push_back(WarmUp{revision});
    return;
  }
}

void Executor::fill_report(ExecutorReport& report) const {
  report.credits = options_.credits;
  report.running = static_cast<uint32_t>(requests_.size());
  report.served = served_;
  report.revisions.clear();
  for (const auto& [digest, revision] : revisions_) {
    Readiness readiness = revision.readiness;
    const bool assigned = assigned_.contains(digest);
    if (revision.complete && revision.runs > 0) readiness = Readiness::kResident;
    if (revision.complete && assigned && !revision.warm) readiness = Readiness::kCached;  // Ready means warm too.
    if (revision.hold == Hold::kClosing) readiness = Readiness::kNone;
    report.revisions.push_back({.revision = digest, .readiness = readiness});
  }
  for (const auto& [digest, failure] : failed_) {
    if (revisions_.contains(digest)) continue;
    const absl::Status& status = failure.status;
    const bool room = status.code() == absl::StatusCode::kResourceExhausted;
    report.revisions.push_back({.revision = digest, .readiness = room ? Readiness::kNone : Readiness::kFailed,
                                .error = std::string(status.message())});
  }
}

}  // namespace cenote::node
