// What people ask of names: publish, rollback, remove, evict, and what there is.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/hash.h"
#include "base/nearest.h"
#include "base/status.h"
#include "catalog/catalogue_plans.h"
#include "node/controller.h"
#include "policy/assign.h"

namespace cenote::node {
namespace {

Digest asked(std::string_view what, const std::string& model, const std::string& tag) {
  Sha256 hash;
  for (const std::string_view part : {what, std::string_view(model), std::string_view(tag)}) hash.update(as_bytes(str_cat(part, "\n")));
  return hash.finish();
}

TagMove move_of(const OperationDone& done) { return {.name = done.name, .tag = done.tag, .revision = done.revision, .previous = done.previous}; }

}  // namespace

// (name, revision) pairs that `model` means: all of a bare name, else the one that a tag or digest names.
absl::StatusOr<std::vector<std::pair<std::string, Digest>>> Controller::named(std::string_view model) const {
  CENOTE_ASSIGN_OR_RETURN(const ModelRef ref, parse_model_ref(model));
  std::vector<std::pair<std::string, Digest>> found;
  if (ref.tag_written || !ref.digest_prefix.empty()) {
    CENOTE_ASSIGN_OR_RETURN(const Digest revision, catalogue_.resolve(ref));
    found.emplace_back(ref.name, revision);
    return found;
  }
  for (const auto& [digest, entry] : catalogue_.revisions()) {
    if (entry.names.contains(ref.name)) found.emplace_back(ref.name, digest);
  }
  if (found.empty()) return absl::NotFoundError(str_cat("no model is named ", ref.name, did_you_mean(ref.name, catalogue_.names())));
  return found;
}

void Controller::handle(Instant, const PublishAsked& e, Actions& actions) {
  const absl::StatusOr<ModelRef> parsed = parse_model_ref(e.model);
  if (!parsed.ok()) {
    actions.emplace_back(TagMoveReply{e.call, parsed.status()});
    return;
  }
  if (const absl::Status status = check_owner(e.caller, parsed->name, "publish"); !status.ok()) {
    actions.emplace_back(TagMoveReply{e.call, status});
    return;
  }
  auto move = std::make_shared<TagMove>(TagMove{.name = parsed->name, .tag = e.tag.empty() ? std::string(kDefaultTag) : e.tag});
  change({.plan = [this, ref = *parsed, move, operation = e.operation, request = asked("publish", e.model, e.tag)]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(const OperationDone* done, answered(operation, request));
            if (done != nullptr) {
              *move = move_of(*done);
              return Events();
            }
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_publish(catalogue_, ref, move->tag));
            CENOTE_ASSIGN_OR_RETURN(move->revision, catalogue_.resolve(ref));
            if (const TagState* tag = catalogue_.tag(move->name, move->tag)) move->previous = tag->revision;
            for (CatalogueEvent& event : want_again(move->revision)) events.push_back(std::move(event));
            answer(operation, request, *move, events);
            return events;
          },
          .done = [call = e.call, move](const absl::Status& status, Actions& actions) {
            actions.emplace_back(TagMoveReply{call, status.ok() ? absl::StatusOr<TagMove>(*move) : status});
          }},
         actions);
}

void Controller::handle(Instant, const RollbackAsked& e, Actions& actions) {
  const absl::StatusOr<ModelRef> parsed = parse_model_ref(e.model);
  if (!parsed.ok() || !parsed->digest_prefix.empty()) {
    actions.emplace_back(TagMoveReply{e.call, parsed.ok() ? absl::InvalidArgumentError(str_cat("rollback of ", e.model, ": a tag is rolled back, not a digest; write name or name:tag"))
                                                          : parsed.status()});
    return;
  }
  if (const absl::Status status = check_owner(e.caller, parsed->name, "roll back"); !status.ok()) {
    actions.emplace_back(TagMoveReply{e.call, status});
    return;
  }
  auto move = std::make_shared<TagMove>(TagMove{.name = parsed->name, .tag = parsed->tag});
  change({.plan = [this, move, operation = e.operation, request = asked("rollback", e.model, "")]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(const OperationDone* done, answered(operation, request));
            if (done != nullptr) {
              *move = move_of(*done);
              return Events();
            }
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_rollback(catalogue_, move->name, move->tag));
            move->previous = catalogue_.tag(move->name, move->tag)->revision;
            move->revision = std::get<TagMoved>(events.front()).revision;
            for (CatalogueEvent& event : want_again(move->revision)) events.push_back(std::move(event));
            answer(operation, request, *move, events);
            return events;
          },
          .done = [call = e.call, move](const absl::Status& status, Actions& actions) {
            actions.emplace_back(TagMoveReply{call, status.ok() ? absl::StatusOr<TagMove>(*move) : status});
          }},
         actions);
}

void Controller::handle(Instant, const RemoveAsked& e, Actions& actions) {
  const absl::StatusOr<ModelRef> parsed = parse_model_ref(e.model);
  if (!parsed.ok()) {
    actions.emplace_back(RemovalReply{e.call, parsed.status()});
    return;
  }
  if (const absl::Status status = check_owner(e.caller, parsed->name, "remove"); !status.ok()) {
    actions.emplace_back(RemovalReply{e.call, status});
    return;
  }
  auto removal = std::make_shared<Removal>();
  change({.plan = [this, ref = *parsed, removal, operation = e.operation, request = asked("remove", e.model, "")]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(const OperationDone* done, answered(operation, request));
            if (done != nullptr) {
              *removal = {.revisions = done->revisions, .freed_bytes = done->freed_bytes};
              return Events();
            }
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_remove(catalogue_, ref));
            for (const CatalogueEvent& event : events) {
              if (const auto* removed = std::get_if<RevisionRemoved>(&event)) removal->revisions.push_back(removed->revision);
            }
            removal->freed_bytes = freed_by(events);
            if (!operation.empty()) {
              events.emplace_back(OperationDone{.id = operation, .request = request, .name = ref.name, .revisions = removal->revisions, .freed_bytes = removal->freed_bytes});
            }
            return events;
          },
          .done = [call = e.call, removal](const absl::Status& status, Actions& actions) {
            actions.emplace_back(RemovalReply{call, status.ok() ? absl::StatusOr<Removal>(*removal) : status});
          }},
         actions);
}

void Controller::handle(Instant, const EvictAsked& e, Actions& actions) {
  auto revisions = std::make_shared<std::vector<Digest>>();
  change({.plan = [this, model = e.model, revisions]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(const auto found, named(model));
            Events events;
            for (const auto& [name, revision] : found) {
              revisions->push_back(revision);
              if (!catalogue_.evicted().contains(revision)) events.emplace_back(PrefetchSet{revision, false});
            }
            return events;
          },
          .done =
              [this, call = e.call, revisions](const absl::Status& status, Actions& actions) {
                if (status.ok()) {
                  for (const Digest& revision : *revisions) evict_until_[revision] = now_ + kEvictRepeated;
                  for (auto& [name, member] : members_) member.assignment.reset();  // Told even if nothing else changed.
                  told_dirty_ = true;
                }
                actions.emplace_back(DoneReply{call, status});
              }},
         actions);
}

ModelInfo Controller::describe(const std::string& name, const Digest& revision, bool blocks) const {
  const RevisionEntry& entry = catalogue_.revisions().at(revision);
  ModelInfo info{.name = name, .record = entry.record, .tags = catalogue_.tags_of(name, revision), .tenant = catalogue_.owner_of(name)};
  info.record.name = name;
  info.record.created_us = entry.names.at(name);
  size_t replicas_min = SIZE_MAX;
  for (const BlockRef& block : distinct_blocks(entry.record)) {
    replicas_min = std::min(replicas_min, live_replicas(block.id));
    if (catalogue_.references(block.id) > 1) info.shared_bytes += block.size_bytes;
  }
  info.replicas_min = static_cast<uint32_t>(replicas_min == SIZE_MAX ? 0 : replicas_min);
  if (!blocks) {
    info.record.blocks.clear();
    info.record.file_blocks.clear();
    info.record.manifest_blocks.clear();
  }
  for (const auto& [agent, member] : members_) {
    for (const ExecutorReport& executor : member.report.executors) {
      RevisionState state{.revision = revision};
      for (const RevisionState& reported : executor.revisions) {
        if (reported.revision == revision) state = reported;
      }
      if (state.readiness == Readiness::kNone && !policy::may_serve(options_.device_models, executor.name, entry)) continue;
      info.devices.push_back(executor.name);
      info.ready.push_back(std::move(state));
    }
  }
  return info;
}

void Controller::handle(Instant, const ModelsAsked& e, Actions& actions) {
  std::vector<std::pair<std::string, Digest>> wanted;
  if (e.model.empty()) {
    for (const auto& [digest, entry] : catalogue_.revisions()) {
      for (const auto& [name, created_us] : entry.names) wanted.emplace_back(name, digest);
    }
    std::sort(wanted.begin(), wanted.end());
  } else {
    auto found = named(e.model);
    if (!found.ok()) {
      actions.emplace_back(ModelsReply{e.call, found.status()});
      return;
    }
    wanted = *std::move(found);
  }
  std::vector<ModelInfo> models;
  for (const auto& [name, revision] : wanted) models.push_back(describe(name, revision, e.blocks));
  actions.emplace_back(ModelsReply{e.call, std::move(models)});
}

}  // namespace cenote::node
