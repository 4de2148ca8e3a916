// Changes that are asked for again: made once, answered each time. And what changes have in common.
#include <algorithm>

#include "base/status.h"
#include "node/controller.h"

namespace cenote::node {

// The stored answer; null: it is asked for the first time. To be called at the change's turn: an earlier try may have waited before it.
absl::StatusOr<const OperationDone*> Controller::answered(const std::string& operation, const Digest& request) const {
  if (operation.empty()) return nullptr;
  const OperationDone* done = catalogue_.operation(operation);
  if (done != nullptr && done->request != request) {
    return absl::InvalidArgumentError("this operation's id was used for another request: each change needs an id of its own");
  }
  return done;
}

// What changes nothing needs no stored answer: it is answered alike again.
void Controller::answer(const std::string& operation, const Digest& request, const TagMove& move, Events& events) {
  if (operation.empty() || events.empty()) return;
  events.emplace_back(OperationDone{.id = operation, .request = request, .name = move.name, .tag = move.tag, .revision = move.revision, .previous = move.previous});
}

Controller::Events Controller::want_again(const Digest& revision) const {
  Events events;
  if (catalogue_.evicted().contains(revision)) events.emplace_back(PrefetchSet{revision, true});
  return events;
}

// Bytes that no revision needs once these removals are applied.
uint64_t Controller::freed_by(const Events& events) const {
  std::map<Digest, std::set<std::string>> names;  // Of revisions, removed.
  std::map<BlockRef, uint32_t> released;
  for (const CatalogueEvent& event : events) {
    const auto* removed = std::get_if<RevisionRemoved>(&event);
    if (removed == nullptr) continue;
    const RevisionEntry& entry = catalogue_.revisions().at(removed->revision);
    if (const auto label = entry.labels.find(removed->name); label != entry.labels.end()) ++released[label->second];
    std::set<std::string>& gone = names[removed->revision];
    gone.insert(removed->name);
    if (gone.size() < entry.names.size()) continue;
    for (const BlockRef& block : distinct_blocks(entry.record)) ++released[block];
  }
  uint64_t bytes = 0;
  for (const auto& [block, count] : released) {
    if (count == catalogue_.references(block.id)) bytes += block.size_bytes;
  }
  return bytes;
}

}  // namespace cenote::node
