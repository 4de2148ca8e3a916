// What people ask of names: publish, rollback, remove, evict, and what there is.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/nearest.h"
#include "base/status.h"
#include "catalog/catalogue_plans.h"
#include "node/controller.h"

namespace cenote::node {

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
  auto move = std::make_shared<TagMove>(TagMove{.name = parsed->name, .tag = e.tag.empty() ? std::string(kDefaultTag) : e.tag});
  change({.plan = [this, ref = *parsed, move]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_publish(catalogue_, ref, move->tag));
            CENOTE_ASSIGN_OR_RETURN(move->revision, catalogue_.resolve(ref));
            if (const TagState* tag = catalogue_.tag(move->name, move->tag)) move->previous = tag->revision;
            return events;
          },
          .done =
              [this, call = e.call, move](const absl::Status& status, Actions& actions) {
                if (!status.ok()) {
                  actions.emplace_back(TagMoveReply{call, status});
                  return;
                }
                if (evicted_.erase(move->revision) != 0) told_dirty_ = true;
                actions.emplace_back(TagMoveReply{call, *move});
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
  auto move = std::make_shared<TagMove>(TagMove{.name = parsed->name, .tag = parsed->tag});
  change({.plan = [this, move]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_rollback(catalogue_, move->name, move->tag));
            if (const TagState* tag = catalogue_.tag(move->name, move->tag)) move->previous = tag->revision;
            return events;
          },
          .done =
              [this, call = e.call, move](const absl::Status& status, Actions& actions) {
                if (!status.ok()) {
                  actions.emplace_back(TagMoveReply{call, status});
                  return;
                }
                if (const TagState* tag = catalogue_.tag(move->name, move->tag)) move->revision = tag->revision;
                if (evicted_.erase(move->revision) != 0) told_dirty_ = true;
                actions.emplace_back(TagMoveReply{call, *move});
              }},
         actions);
}

void Controller::handle(Instant, const RemoveAsked& e, Actions& actions) {
  const absl::StatusOr<ModelRef> parsed = parse_model_ref(e.model);
  if (!parsed.ok()) {
    actions.emplace_back(RemovalReply{e.call, parsed.status()});
    return;
  }
  struct Before {
    std::vector<Digest> revisions;
    uint64_t unreferenced_bytes = 0;
  };
  const auto unreferenced_bytes = [this] {
    uint64_t bytes = 0;
    for (const BlockRef& block : catalogue_.unreferenced()) bytes += block.size_bytes;
    return bytes;
  };
  auto before = std::make_shared<Before>();
  change({.plan = [this, ref = *parsed, before, unreferenced_bytes]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_remove(catalogue_, ref));
            for (const CatalogueEvent& event : events) {
              if (const auto* removed = std::get_if<RevisionRemoved>(&event)) before->revisions.push_back(removed->revision);
            }
            before->unreferenced_bytes = unreferenced_bytes();
            return events;
          },
          .done =
              [this, call = e.call, before, unreferenced_bytes](const absl::Status& status, Actions& actions) {
                if (!status.ok()) {
                  actions.emplace_back(RemovalReply{call, status});
                  return;
                }
                for (const Digest& revision : before->revisions) {
                  if (catalogue_.find(revision) == nullptr) evicted_.erase(revision);
                }
                actions.emplace_back(RemovalReply{call, Removal{before->revisions, unreferenced_bytes() - before->unreferenced_bytes}});
              }},
         actions);
}

void Controller::handle(Instant now, const EvictAsked& e, Actions& actions) {
  const auto found = named(e.model);
  if (!found.ok()) {
    actions.emplace_back(DoneReply{e.call, found.status()});
    return;
  }
  for (const auto& [name, revision] : *found) {
    evicted_.insert(revision);
    evict_until_[revision] = now + kEvictRepeated;
  }
  for (auto& [name, member] : members_) member.assignment.reset();  // Told even if nothing else changed.
  told_dirty_ = true;
  actions.emplace_back(DoneReply{e.call, absl::OkStatus()});
}

ModelInfo Controller::describe(const std::string& name, const Digest& revision, bool blocks) const {
  const RevisionEntry& entry = catalogue_.revisions().at(revision);
  ModelInfo info{.name = name, .record = entry.record, .tags = catalogue_.tags_of(name, revision)};
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
