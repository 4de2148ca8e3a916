// The part of a catalogue that a few events touch: what a trial of them needs, without a copy of thousands of models.
#include <algorithm>

#include "catalog/catalogue.h"

namespace cenote {

void Catalogue::copy_blocks(std::span<const BlockRef> blocks, Catalogue& part) const {
  for (const BlockRef& block : blocks) {
    const auto state = blocks_.find(block.id);
    if (state == blocks_.end()) continue;
    part.blocks_.insert(*state);
    if (state->second.references == 0) part.unreferenced_.insert(block.id);
    for (const std::string& server : state->second.servers) part.held_[server].insert(block.id);
  }
}

void Catalogue::copy_revision(const Digest& revision, Catalogue& part) const {
  const auto entry = revisions_.find(revision);
  if (entry == revisions_.end() || !part.revisions_.insert(*entry).second) return;
  copy_blocks(distinct_blocks(entry->second.record), part);
  for (const auto& [name, label] : entry->second.labels) copy_blocks({&label, 1}, part);
  if (evicted_.contains(revision)) part.evicted_.insert(revision);
}

void Catalogue::copy_name(const std::string& name, Catalogue& part) const {
  if (const auto tags = tags_.find(name); tags != tags_.end()) part.tags_.insert(*tags);
  if (const auto owner = owners_.find(name); owner != owners_.end()) part.owners_.insert(*owner);
}

Catalogue Catalogue::excerpt(std::span<const CatalogueEvent> events) const {
  struct Touch {
    const Catalogue& whole;
    Catalogue& part;
    void operator()(const RevisionSealed& e) {
      whole.copy_revision(e.record.digest, part);
      whole.copy_blocks(distinct_blocks(e.record), part);
    }
    void operator()(const TagMoved& e) {
      whole.copy_revision(e.revision, part);
      whole.copy_name(e.name, part);
    }
    void operator()(const TagRemoved& e) { whole.copy_name(e.name, part); }
    void operator()(const RevisionRemoved& e) {
      whole.copy_revision(e.revision, part);
      whole.copy_name(e.name, part);
    }
    void operator()(const ReplicasAdded& e) { whole.copy_blocks(e.blocks, part); }
    void operator()(const ReplicasLost& e) { whole.copy_blocks(whole.held_by(e.server), part); }
    void operator()(const PrefetchSet& e) { whole.copy_revision(e.revision, part); }
    void operator()(const OperationDone&) {}
    void operator()(const LineageSet&) {}
    void operator()(const NameOwned& e) {
      whole.copy_name(e.name, part);
      const auto named = std::find_if(whole.revisions_.begin(), whole.revisions_.end(), [&](const auto& entry) { return entry.second.names.contains(e.name); });
      if (named != whole.revisions_.end()) whole.copy_revision(named->first, part);
    }
    void operator()(const RevisionLabelled& e) {
      whole.copy_revision(e.revision, part);
      whole.copy_blocks({&e.label, 1}, part);
    }
  };
  Catalogue part;
  part.operations_ = operations_;
  part.operation_digests_ = operation_digests_;
  part.lineage_ = lineage_;
  part.held_because_ = held_because_;
  for (const CatalogueEvent& event : events) std::visit(Touch{*this, part}, event);
  return part;
}

}  // namespace cenote
