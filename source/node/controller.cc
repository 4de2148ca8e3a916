#include "node/controller.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/status.h"

namespace cenote::node {

Controller::Controller(ControllerOptions options, Catalogue catalogue, Instant now)
    : options_(std::move(options)),
      catalogue_(std::move(catalogue)),
      next_deploy_(options_.first_version),
      health_at_(now + kHealthRound),
      now_(now),
      lineage_at_(now),
      sequence_(options_.events_stored),
      version_(options_.first_version),
      settle_at_(now + options_.member_timeout),
      garbage_from_(now + options_.deploy_lease) {}

void Controller::step(Instant now, std::span<const ControllerEvent> events, Actions& actions) {
  awake(now);
  now_ = now;
  begin_lineage(actions);
  for (const ControllerEvent& event : events) {
    std::visit([&](const auto& e) { handle(now, e, actions); }, event);
  }
  expire(now, actions);
  judge_health(now, actions);
  notice(now, actions);
  settle(now, actions);
  check_waiting(now, actions);
  collect_garbage(now);
  repair(now, actions);
  tell_members(now, actions);
}

Instant Controller::next_deadline() const {
  Instant next = std::min(silence_.next_deadline(), next_repair());
  if (settled_) next = std::min(next, health_at_);
  for (const auto& [name, member] : members_) {
    next = std::min(next, member.last_seen + options_.member_timeout);
    if (member.stream != 0) next = std::min({next, member.last_told + kBeatInterval, member.ask_inventory});
  }
  for (const auto& [number, deploy] : deploys_) {
    if (!deploy.committing) next = std::min(next, deploy.expires);
  }
  for (const BeginAsked& begin : waiting_begins_) next = std::min(next, begin.deadline);
  for (const CommitAsked& commit : waiting_commits_) next = std::min(next, commit.deadline);
  if (!settled_) next = std::min(next, settle_at_);
  if (garbage_dirty_ && settled_ && catalogue_.held_because().empty()) next = std::min(next, garbage_from_);
  if (replica_news_ && settled_) next = std::min(next, replicas_told_ + replica_news_every());
  if (news_left_ || (told_dirty_ && settled_)) next = std::min(next, now_);
  if (catalogue_.lineage() == 0 && !lineage_asked_) next = std::min(next, lineage_at_);
  return next;
}

// ---- the catalogue changes -------------------------------------------------------------------------------------------------
void Controller::change(Change change, Actions& actions) {
  if (changes_.size() >= kPendingMax) {
    change.done(absl::ResourceExhaustedError(str_cat(changes_.size(), " changes of the catalogue wait, the limit; try again in a moment")), actions);
    return;
  }
  changes_.push_back(std::move(change));
  pump(actions);
}

void Controller::pump(Actions& actions) {
  while (appending_.empty() && !changes_.empty()) {
    Change next = std::move(changes_.front());
    changes_.pop_front();
    absl::StatusOr<Events> events = next.plan();
    if (events.ok() && !events->empty() && !next.checked) {
      Catalogue trial = catalogue_.excerpt(*events);
      for (const CatalogueEvent& event : *events) {
        if (const absl::Status applied = trial.apply(event); !applied.ok()) {
          events = applied;
          break;
        }
      }
    }
    if (!events.ok() || events->empty()) {
      next.done(events.status(), actions);
      continue;
    }
    appending_ = *std::move(events);
    appending_done_ = std::move(next.done);
    actions.emplace_back(AppendEvents{appending_});
  }
}

void Controller::handle(Instant, const Appended& e, Actions& actions) {
  CENOTE_CHECK(!appending_.empty());
  const Events events = std::exchange(appending_, {});
  if (e.status.ok()) {
    touch(events);  // Also what they remove is known now.
    for (const CatalogueEvent& event : events) {
      const absl::Status applied = catalogue_.apply(event);
      // The store has it: going on without would part from what the next start reads.
      if (!applied.ok()) std::fprintf(stderr, "event of the store does not apply: %s: %s\n", describe_event(event).c_str(), std::string(applied.message()).c_str());
      CENOTE_CHECK(applied.ok());
    }
    sequence_ += events.size();
    for (const CatalogueEvent& event : events) {
      const auto* set = std::get_if<LineageSet>(&event);
      if (set == nullptr || set->held_because.empty()) continue;
      actions.emplace_back(Say{true, str_cat("memory servers keep what no revision needs: ", set->held_because, "; run `cenote rebuild` to find models in the pool, then to let go of the rest")});
    }
    const bool later = std::all_of(events.begin(), events.end(), [this](const CatalogueEvent& event) { return may_be_told_later(event); });
    (later ? replica_news_ : told_dirty_) = true;
    garbage_dirty_ = true;
    last_refusal_ = absl::OkStatus();
  } else if (e.status != std::exchange(last_refusal_, e.status)) {
    actions.emplace_back(Say{true, str_cat("the catalogue cannot be written: ", e.status.message())});
  }
  const auto done = std::exchange(appending_done_, nullptr);
  done(e.status, actions);
  pump(actions);
}

// Readers go on with the replicas that they know of. A block that had none can be read again: that is news.
bool Controller::may_be_told_later(const CatalogueEvent& event) const {
  if (std::holds_alternative<ReplicasLost>(event)) return true;
  const auto* added = std::get_if<ReplicasAdded>(&event);
  return added != nullptr && std::none_of(added->blocks.begin(), added->blocks.end(), [this](const BlockRef& ref) {
    const auto block = catalogue_.blocks().find(ref.id);
    return block != catalogue_.blocks().end() && block->second.references > 0 && catalogue_.replicas(ref.id).size() == 1;
  });
}

// ---- time ------------------------------------------------------------------------------------------------------------------
void Controller::expire(Instant now, Actions& actions) {
  std::vector<std::string> silent;
  for (auto& [name, member] : members_) {
    if (member.last_seen + options_.member_timeout <= now) {
      silent.push_back(name);
    } else if (member.ask_inventory <= now && member.stream != 0) {
      member.ask_inventory = now + kInventoryRetry;
      tell_memory(now, member, true, actions);
    }
  }
  for (const std::string& name : silent) lose(name, Say{true, "is lost: silent"}, actions);

  for (auto deploy = deploys_.begin(); deploy != deploys_.end();) {
    if (!deploy->second.committing && deploy->second.expires <= now) {
      actions.emplace_back(Say{true, str_cat("deploy ", deploy->first, " of ", deploy->second.request.name, " by ", deploy->second.request.client, " fell silent and is forgotten")});
      deploy = deploys_.erase(deploy);
      garbage_dirty_ = true;
    } else {
      ++deploy;
    }
  }
  std::erase_if(evict_until_, [&](const auto& entry) { return entry.second <= now; });
}

void Controller::settle(Instant now, Actions& actions) {
  if (settled_) return;
  const bool complete = std::all_of(options_.expected.begin(), options_.expected.end(), [&](const std::string& name) {
    const auto member = members_.find(name);
    return member != members_.end() && (member->second.report.role != Role::kMemory || takes_blocks(member->second));
  });
  if (!complete && now < settle_at_) return;
  settled_ = true;
  if (!complete) {
    for (const std::string& name : options_.expected) {
      if (!members_.contains(name)) actions.emplace_back(Say{true, str_cat("going on without ", name, ", which has not joined yet")});
    }
  }
}

}  // namespace cenote::node
