#include "catalog/catalogue.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/nearest.h"
#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

// Same content; names and times may differ.
bool same_content(const RevisionRecord& a, const RevisionRecord& b) {
  return a.manifest_bytes == b.manifest_bytes && a.manifest_blocks == b.manifest_blocks &&
         a.blocks == b.blocks && a.file_blocks == b.file_blocks && a.weight_bytes == b.weight_bytes;
}

absl::Status not_found(std::string_view what, std::string_view remedy = "") {
  return absl::NotFoundError(str_cat("there is no ", what, remedy));
}

// The record goes by the first of its names.
void name_record(RevisionEntry& entry) {
  entry.record.name = entry.names.begin()->first;
  entry.record.created_us = entry.names.begin()->second;
}

// Without `revision`, and without the repeats that this leaves.
void forget(std::vector<Digest>& history, const Digest& revision) {
  std::erase(history, revision);
  history.erase(std::unique(history.begin(), history.end()), history.end());
}

}  // namespace

std::vector<BlockRef> distinct_blocks(const RevisionRecord& record) {
  std::set<BlockRef> blocks(record.blocks.begin(), record.blocks.end());
  blocks.insert(record.manifest_blocks.begin(), record.manifest_blocks.end());
  blocks.insert(record.file_blocks.begin(), record.file_blocks.end());
  if (!record.label.id.empty()) blocks.insert(record.label);
  return {blocks.begin(), blocks.end()};
}

absl::Status Catalogue::apply(const CatalogueEvent& event) {
  CENOTE_RETURN_IF_ERROR(check_event(event));
  CENOTE_RETURN_IF_ERROR(std::visit([this](const auto& e) { return apply_one(e); }, event));
  ++applied_;
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const RevisionSealed& event) {
  const RevisionRecord& record = event.record;
  if (const auto known = revisions_.find(record.digest); known != revisions_.end()) {
    if (!same_content(known->second.record, record)) {
      return absl::InvalidArgumentError(
          str_cat("revision ", record.digest.short_hex(), " is known with other blocks"));
    }
    if (!known->second.names.emplace(record.name, record.created_us).second) {
      return absl::AlreadyExistsError(str_cat(record.name, "@", record.digest.short_hex(), " exists"));
    }
    name_record(known->second);
    return absl::OkStatus();
  }
  const std::vector<BlockRef> blocks = distinct_blocks(record);
  for (const BlockRef& block : blocks) {
    const auto known = blocks_.find(block.id);
    if (known != blocks_.end() && known->second.size_bytes != block.size_bytes) {
      return absl::InvalidArgumentError(str_cat("block ", block.id.short_hex(), " has ", block.size_bytes,
                                                " bytes, known with ", known->second.size_bytes));
    }
  }
  for (const BlockRef& block : blocks) need(block);
  revisions_.emplace(record.digest, RevisionEntry{record, {{record.name, record.created_us}}, {}});
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const TagMoved& event) {
  const auto revision = revisions_.find(event.revision);
  if (revision == revisions_.end() || !revision->second.names.contains(event.name)) {
    return not_found(str_cat("revision ", event.name, "@", event.revision.short_hex()));
  }
  const TagState* state = tag(event.name, event.tag);
  if (event.rollback) {
    if (state == nullptr) return not_found(str_cat("tag ", event.name, ":", event.tag));
    if (state->history.empty() || state->history.back() != event.revision) {
      return absl::FailedPreconditionError(
          str_cat(event.name, ":", event.tag, " did not point at ", event.revision.short_hex(), " before"));
    }
    TagState& mutable_state = tags_[event.name][event.tag];
    mutable_state.revision = event.revision;
    mutable_state.history.pop_back();
    return absl::OkStatus();
  }
  if (state != nullptr && state->revision == event.revision) {
    return absl::AlreadyExistsError(
        str_cat(event.name, ":", event.tag, " points at ", event.revision.short_hex()));
  }
  TagState& target = tags_[event.name][event.tag];
  if (state != nullptr) {
    target.history.push_back(target.revision);
    if (target.history.size() > kTagHistoryMax) target.history.erase(target.history.begin());
  }
  target.revision = event.revision;
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const TagRemoved& event) {
  if (tag(event.name, event.tag) == nullptr) return not_found(str_cat("tag ", event.name, ":", event.tag));
  auto& tags = tags_[event.name];
  tags.erase(event.tag);
  if (tags.empty()) tags_.erase(event.name);
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const RevisionRemoved& event) {
  const auto revision = revisions_.find(event.revision);
  if (revision == revisions_.end() || !revision->second.names.contains(event.name)) {
    return not_found(str_cat("revision ", event.name, "@", event.revision.short_hex()));
  }
  if (const std::vector<std::string> tags = tags_of(event.name, event.revision); !tags.empty()) {
    return absl::FailedPreconditionError(
        str_cat("tag ", event.name, ":", tags.front(), " points at ", event.revision.short_hex()));
  }
  if (const auto tags = tags_.find(event.name); tags != tags_.end()) {
    for (auto& [name, state] : tags->second) {
      forget(state.history, event.revision);
      if (!state.history.empty() && state.history.back() == state.revision) state.history.pop_back();
    }
  }
  RevisionEntry& entry = revision->second;
  entry.names.erase(event.name);
  if (const auto label = entry.labels.find(event.name); label != entry.labels.end()) {
    release(label->second);
    entry.labels.erase(label);
  }
  if (!entry.names.empty()) {
    name_record(entry);
    if (owners_.contains(event.name) && !has_name(event.name)) owners_.erase(event.name);
    return absl::OkStatus();
  }
  for (const BlockRef& block : distinct_blocks(entry.record)) release(block);
  evicted_.erase(event.revision);
  revisions_.erase(revision);
  if (owners_.contains(event.name) && !has_name(event.name)) owners_.erase(event.name);
  return absl::OkStatus();
}

void Catalogue::need(const BlockRef& block) {
  BlockState& state = blocks_[block.id];
  state.size_bytes = block.size_bytes;
  ++state.references;
  unreferenced_.erase(block.id);
}

void Catalogue::release(const BlockRef& block) {
  const auto state = blocks_.find(block.id);
  CENOTE_CHECK(state != blocks_.end() && state->second.references > 0);
  if (--state->second.references > 0) return;
  if (state->second.servers.empty()) {
    blocks_.erase(state);
  } else {
    unreferenced_.insert(block.id);
  }
}

absl::Status Catalogue::apply_one(const ReplicasAdded& event) {
  for (const BlockRef& block : event.blocks) {
    const auto known = blocks_.find(block.id);
    if (known != blocks_.end() && known->second.size_bytes != block.size_bytes) {
      return absl::InvalidArgumentError(str_cat("block ", block.id.short_hex(), " on ", event.server, " has ",
                                                block.size_bytes, " bytes, known with ",
                                                known->second.size_bytes));
    }
  }
  for (const BlockRef& block : event.blocks) {
    BlockState& state = blocks_[block.id];
    state.size_bytes = block.size_bytes;
    state.servers.insert(event.server);
    if (state.references == 0) unreferenced_.insert(block.id);
    held_[event.server].insert(block.id);
  }
  return absl::OkStatus();
}

absl::Status Catalogue::apply_one(const ReplicasLost& event) {
  const auto held = held_.find(event.server);
  if (held == held_.end()) return absl::OkStatus();
  const std::set<Digest> lost =
      event.all ? held->second : std::set<Digest>(event.blocks.begin(), event.blocks.end());
  for (const Digest& block : lost) {
    if (held->second.erase(block) == 0) continue;
    const auto state = blocks_.find(block);
    state->second.servers.erase(event.server);
    if (state->second.servers.empty() && state->second.references == 0) {
      unreferenced_.erase(block);
      blocks_.erase(state);
    }
  }
  if (held->second.empty()) held_.erase(held);
  return absl::OkStatus();
}

const RevisionRecord* Catalogue::find(const Digest& revision) const {
  const auto found = revisions_.find(revision);
  return found == revisions_.end() ? nullptr : &found->second.record;
}

const TagState* Catalogue::tag(std::string_view name, std::string_view tag) const {
  const auto tags = tags_.find(std::string(name));
  if (tags == tags_.end()) return nullptr;
  const auto state = tags->second.find(std::string(tag));
  return state == tags->second.end() ? nullptr : &state->second;
}

absl::StatusOr<Digest> Catalogue::resolve(const ModelRef& ref) const {
  const std::vector<std::string> all = names();
  if (!std::binary_search(all.begin(), all.end(), ref.name))
    return not_found(str_cat("model '", ref.name, "'"), did_you_mean(ref.name, all));
  if (ref.digest_prefix.empty()) {
    if (const TagState* state = tag(ref.name, ref.tag)) return state->revision;
    std::vector<std::string> tags;
    if (const auto found = tags_.find(ref.name); found != tags_.end()) {
      for (const auto& [tag, state] : found->second) tags.push_back(tag);
    }
    return not_found(str_cat("tag '", ref.tag, "' of model '", ref.name, "'"),
                     tags.empty() ? ": it has none; name a revision, or publish one"
                                  : str_cat(": it has ", tags.size(), ", such as '", tags.front(), "'"));
  }
  std::vector<Digest> fitting;
  for (const auto& [digest, entry] : revisions_) {
    if (entry.names.contains(ref.name) && digest.hex().starts_with(ref.digest_prefix))
      fitting.push_back(digest);
  }
  if (fitting.empty()) return not_found(str_cat("revision ", ref.text()));
  if (fitting.size() > 1) {
    return absl::InvalidArgumentError(str_cat(ref.text(), " fits ", fitting.size(), " revisions, such as ",
                                              fitting[0].short_hex(), " and ", fitting[1].short_hex(),
                                              ": write more digits"));
  }
  return fitting.front();
}

absl::StatusOr<Digest> Catalogue::resolve(std::string_view text) const {
  CENOTE_ASSIGN_OR_RETURN(const ModelRef ref, parse_model_ref(text));
  return resolve(ref);
}

std::vector<TagView> Catalogue::tag_views() const {
  std::vector<TagView> views;
  for (const auto& [name, tags] : tags_) {
    for (const auto& [tag, state] : tags) views.push_back({name, tag, state.revision});
  }
  return views;
}

std::vector<std::string> Catalogue::names() const {
  std::set<std::string> names;
  for (const auto& [digest, entry] : revisions_) {
    for (const auto& [name, created_us] : entry.names) names.insert(name);
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> Catalogue::tags_of(std::string_view name, const Digest& revision) const {
  std::vector<std::string> tags;
  const auto found = tags_.find(std::string(name));
  if (found == tags_.end()) return tags;
  for (const auto& [tag, state] : found->second) {
    if (state.revision == revision) tags.push_back(tag);
  }
  return tags;
}

std::vector<std::string> Catalogue::replicas(const Digest& block) const {
  const auto found = blocks_.find(block);
  if (found == blocks_.end()) return {};
  return {found->second.servers.begin(), found->second.servers.end()};
}

uint32_t Catalogue::references(const Digest& block) const {
  const auto found = blocks_.find(block);
  return found == blocks_.end() ? 0 : found->second.references;
}

std::vector<BlockRef> Catalogue::held_by(std::string_view server) const {
  std::vector<BlockRef> blocks;
  const auto held = held_.find(std::string(server));
  if (held == held_.end()) return blocks;
  for (const Digest& block : held->second) blocks.push_back({block, blocks_.at(block).size_bytes});
  return blocks;
}

std::vector<BlockRef> Catalogue::unreferenced() const {
  std::vector<BlockRef> blocks;
  for (const Digest& id : unreferenced_) blocks.push_back({id, blocks_.at(id).size_bytes});
  return blocks;
}

std::vector<BlockRef> Catalogue::only_needed_by(const Digest& revision) const {
  std::vector<BlockRef> blocks;
  const RevisionRecord* record = find(revision);
  if (record == nullptr) return blocks;
  for (const BlockRef& block : distinct_blocks(*record)) {
    if (references(block.id) == 1) blocks.push_back(block);
  }
  return blocks;
}

std::vector<CatalogueEvent> Catalogue::as_events() const {
  std::vector<CatalogueEvent> events;
  if (lineage_ != 0) events.emplace_back(LineageSet{lineage_, held_because_});
  for (const auto& [digest, entry] : revisions_) {
    for (const auto& [name, created_us] : entry.names) {
      RevisionSealed sealed{entry.record};
      sealed.record.name = name;
      sealed.record.created_us = created_us;
      events.emplace_back(std::move(sealed));
    }
    for (const auto& [name, label] : entry.labels) events.emplace_back(RevisionLabelled{name, digest, label});
  }
  for (const auto& [name, tenant] : owners_) events.emplace_back(NameOwned{name, tenant});
  for (const Digest& revision : evicted_) events.emplace_back(PrefetchSet{revision, false});
  for (const auto& [name, tags] : tags_) {
    for (const auto& [tag, state] : tags) {
      for (const Digest& previous : state.history) events.emplace_back(TagMoved{name, tag, previous});
      events.emplace_back(TagMoved{name, tag, state.revision});
    }
  }
  for (const auto& [server, blocks] : held_) {
    ReplicasAdded added{server, {}};
    for (const Digest& block : blocks) {
      added.blocks.push_back({block, blocks_.at(block).size_bytes});
      if (added.blocks.size() == kEventBlocksMax) events.emplace_back(std::exchange(added, {server, {}}));
    }
    if (!added.blocks.empty()) events.emplace_back(std::move(added));
  }
  events.insert(events.end(), operations_.begin(), operations_.end());
  return events;
}

Digest Catalogue::fingerprint() const {
  Sha256 hash;
  for (const CatalogueEvent& event : as_events()) hash.update(as_bytes(encode_event(event)));
  return hash.finish();
}

}  // namespace cenote
