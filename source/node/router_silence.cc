// Executors that fall silent while they are waited for, and callers who wait for us.
#include <algorithm>

#include "base/status.h"
#include "node/router.h"

namespace cenote::node {

using namespace router;

void Router::handle(Instant now, LinkBeat& event, Actions& actions) {
  if (suspicion_.heard(now, event.link, event.next)) trust(event.link, actions);
}

// Any word of it counts.
void Router::heard(Instant now, LinkId link, Actions& actions) {
  if (suspicion_.heard(now, link)) trust(link, actions);
}

// The executor lives, but not what it needs. If nobody else may have the request, it waits there.
void Router::handle(Instant now, LinkStuck& event, Actions& actions) {
  heard(now, event.link, actions);
  const auto request = requests_.find(event.id);
  const auto from = links_.find(event.link);
  if (request == requests_.end() || from == links_.end()) return;
  Request& r = request->second;
  if (r.phase != Phase::kSent || r.link != event.link) return;
  const bool other = std::any_of(executors_.begin(), executors_.end(), [&](const auto& entry) {
    const Executor& e = entry.second;
    return e.up && !e.draining && !suspicion_.suspected(e.link) && !e.outstanding.contains(event.id) && may_serve(entry.first, r.revision);
  });
  if (other) ask_another(request, from->second->first, "waits for an agent that fell silent");
}

// It stays where it is, too.
void Router::ask_another(Requests::iterator request, const std::string& executor, const char* why) {
  Request& r = request->second;
  r.left_at = r.link;
  --r.attempts;  // Nobody has failed.
  r.last_error = absl::UnavailableError(str_cat("executor ", executor, " ", why));
  if (std::find(r.tried.begin(), r.tried.end(), executor) == r.tried.end()) r.tried.push_back(executor);
  enqueue(request);
  ++counts_.retried;
}

// What it has goes back into the queue, to be sent to another beside it; a ticket's caller sees the silence himself.
void Router::suspect(LinkId link, Actions& actions) {
  const auto found = links_.find(link);
  CENOTE_CHECK(found != links_.end());
  const std::string& name = found->second->first;
  ++counts_.suspected;
  size_t moved = 0;
  for (const RequestId& id : found->second->second.outstanding) {
    const auto request = requests_.find(id);
    if (request == requests_.end() || request->second.phase != Phase::kSent || request->second.link != link) continue;
    ask_another(request, name, "fell silent");
    ++moved;
  }
  actions.push_back(Noticed{name, true, moved});
}

// What nobody else has taken meanwhile stays with it.
void Router::trust(LinkId link, Actions& actions) {
  const auto found = links_.find(link);
  if (found == links_.end()) return;
  size_t kept = 0;
  for (const RequestId& id : found->second->second.outstanding) {
    const auto request = requests_.find(id);
    if (request == requests_.end() || request->second.left_at != link) continue;
    Request& r = request->second;
    if (r.phase != Phase::kQueued && r.phase != Phase::kDelayed) continue;
    unqueue(request);
    r.phase = Phase::kSent;
    r.link = link;
    r.left_at = 0;
    ++r.attempts;
    ++kept;
  }
  actions.push_back(Noticed{found->second->first, false, kept});
}

void Router::beat(Instant now, Actions& actions) {
  beats_.step(
      now,
      [this](SessionId id) {
        const auto session = sessions_.find(id);
        return session != sessions_.end() && !session->second.empty();
      },
      [&](SessionId session, Duration next) { actions.push_back(SendBeat{session, next}); });
}

}  // namespace cenote::node
