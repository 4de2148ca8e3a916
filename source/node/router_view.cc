// The cluster as the router sees it: names, executors and the links to them.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "base/nearest.h"
#include "base/status.h"
#include "catalog/names.h"
#include "node/router.h"

namespace cenote::node {

using namespace router;

void Router::handle(Instant now, ViewChanged& event, Actions& actions) {
  has_view_ = true;
  view_ = std::move(event.view);
  deployed_ = {view_.revisions.begin(), view_.revisions.end()};
  resolved_.clear();
  for (auto& [name, executor] : executors_) executor.in_view = false;
  for (const ExecutorReport& report : view_.executors) {
    if (report.address.empty() || report.incarnation == 0) continue;
    Executor& executor = executors_[report.name];
    executor.in_view = true;
    if (executor.address != report.address) {
      drop_link(now, report.name, executor, absl::UnavailableError(report.name + " has moved"), actions);
      executor.address = report.address;
      executor.connect_at = now;
      executor.backoff = kConnectRetryMin;
    }
    executor.readiness.clear();
    for (const RevisionState& state : report.revisions) executor.readiness[state.revision] = state.readiness;
  }
  std::erase_if(executors_, [](const auto& entry) { return !entry.second.in_view && entry.second.link == 0; });
  // What was removed while it waited.
  std::vector<RequestId> gone;
  for (const auto& [revision, queue] : queues_) {
    if (deployed_.contains(revision)) continue;
    for (const auto& [sequence, id] : queue) gone.push_back(id);
  }
  for (const RequestId& id : gone) {
    const auto request = requests_.find(id);
    answer(request, absl::NotFoundError(str_cat("model '", request->second.message->model, "' was removed while the request waited")),
           actions);
  }
  resolve_waiting(now, actions);
}

void Router::handle(Instant, LinkUp& event, Actions&) {
  const auto found = links_.find(event.link);
  if (found == links_.end()) return;
  Executor& executor = found->second->second;
  executor.up = true;
  executor.incarnation = event.incarnation;
  executor.credits = event.credits;
  executor.draining = event.draining;
  executor.beat = event.beat;
  executor.backoff = kConnectRetryMin;
}

void Router::handle(Instant now, LinkCredits& event, Actions& actions) {
  heard(now, event.link, actions);
  const auto found = links_.find(event.link);
  if (found == links_.end()) return;
  found->second->second.credits = event.credits;
  found->second->second.draining = event.draining;
}

void Router::handle(Instant now, LinkLost& event, Actions& actions) {
  const auto found = links_.find(event.link);
  if (found == links_.end()) return;
  const auto entry = found->second;
  Executor& executor = entry->second;
  const bool was_up = executor.up;
  links_.erase(found);
  suspicion_.forget(event.link);
  executor.link = 0;
  executor.connect_at = now + executor.backoff;
  if (!was_up) executor.backoff = std::min(executor.backoff * 2, kConnectRetryMax);
  drop_link(now, entry->first, executor, std::move(event.why), actions);
  if (!executor.in_view) executors_.erase(entry);
}

// What was outstanding there is tried elsewhere; callers with tickets see the loss themselves.
void Router::drop_link(Instant now, const std::string& name, Executor& executor, absl::Status why, Actions& actions) {
  if (executor.link != 0) {
    actions.push_back(CloseLink{executor.link});
    links_.erase(executor.link);
    suspicion_.forget(executor.link);
    executor.link = 0;
  }
  executor.up = false;
  executor.draining = false;
  executor.credits = 0;
  const std::set<RequestId> lost = std::move(executor.outstanding);
  executor.outstanding.clear();
  outstanding_ -= lost.size();
  for (const RequestId& id : lost) {
    const auto request = requests_.find(id);
    if (request == requests_.end()) continue;
    const Phase phase = request->second.phase;
    const bool here = (phase == Phase::kSent || phase == Phase::kReserved) && !links_.contains(request->second.link);
    if (!here) continue;  // It is elsewhere by now; this executor had only not let go of it.
    if (phase == Phase::kSent) {
      retry(now, request, name, absl::UnavailableError(str_cat("executor ", name, " was lost: ", to_std(why.message()))), actions);
    } else {
      forget(request);
    }
  }
}

void Router::connect(Instant now, Actions& actions) {
  for (auto entry = executors_.begin(); entry != executors_.end(); ++entry) {
    Executor& executor = entry->second;
    if (executor.link != 0 || executor.connect_at > now) continue;
    executor.link = next_link_++;
    links_.emplace(executor.link, entry);
    actions.push_back(OpenLink{executor.link, entry->first, executor.address});
  }
}

// The executor is done with `id`; false if it did not have it.
bool Router::freed(LinkId link, const RequestId& id) {
  const auto found = links_.find(link);
  if (found == links_.end() || found->second->second.outstanding.erase(id) == 0) return false;
  if (found->second->second.outstanding.empty()) suspicion_.settle(link);
  --outstanding_;
  return true;
}

bool Router::may_serve(const std::string& executor, const Digest& revision) const {
  const auto allowed = view_.allowed.find(revision);
  return allowed == view_.allowed.end() ||
         std::find(allowed->second.begin(), allowed->second.end(), executor) != allowed->second.end();
}

absl::StatusOr<Digest> Router::resolve(const std::string& model) {
  if (const auto known = resolved_.find(model); known != resolved_.end()) return known->second;
  absl::StatusOr<Digest> digest = lookup(model);
  if (digest.ok() && resolved_.size() < 65536) resolved_.emplace(model, *digest);
  return digest;
}

absl::StatusOr<Digest> Router::lookup(const std::string& model) const {
  CENOTE_ASSIGN_OR_RETURN(const ModelRef ref, parse_model_ref(model));
  if (!has_view_) {
    return absl::UnavailableError(str_cat(options_.name, " has not heard from the controller yet; try again in a moment"));
  }
  std::vector<std::string> tags;
  std::set<std::string> names;
  for (const TagView& tag : view_.tags) {
    if (tag.name == ref.name && ref.digest_prefix.empty() && tag.tag == ref.tag) return tag.revision;
    if (tag.name == ref.name) tags.push_back(tag.tag);
    names.insert(tag.name);
  }
  std::vector<Digest> fitting;
  for (const auto& [revision, name] : view_.revision_names) {
    names.insert(name);
    if (name == ref.name && absl::StartsWith(revision.hex(), ref.digest_prefix)) fitting.push_back(revision);
  }
  if (!names.contains(ref.name)) {
    const std::vector<std::string> known(names.begin(), names.end());
    return absl::NotFoundError(str_cat("no model is named '", ref.name, "'", did_you_mean(ref.name, known),
                                       known.empty() ? "; none is deployed yet" : ""));
  }
  if (ref.digest_prefix.empty()) {
    return absl::NotFoundError(str_cat("model '", ref.name, "' has no tag '", ref.tag, "'",
                                       tags.empty() ? "; name a revision: NAME@DIGEST" : "; its tags: " + absl::StrJoin(tags, ", ")));
  }
  if (fitting.empty()) return absl::NotFoundError(str_cat("model '", ref.name, "' has no revision @", ref.digest_prefix));
  if (fitting.size() > 1) {
    return absl::InvalidArgumentError(str_cat("'", model, "' fits ", fitting.size(), " revisions: give more digits"));
  }
  return fitting.front();
}

}  // namespace cenote::node
