// Goal: whatever events come, the catalogue's counts agree with a slow recount, and replaying events or the
// snapshot gives the same catalogue.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "scenario.h"

namespace cenote {
namespace {

// An event that is often valid: few names, few blocks.
CatalogueEvent random_event(Rng& rng) {
  static const std::vector<std::string> kLetters = {"a", "ab", "abc", "bd", "e"};
  const std::string name(1, static_cast<char>('m' + rng.below(2)));
  const std::string tag(1, static_cast<char>('t' + rng.below(2)));
  const RevisionRecord record = revision(name, kLetters[rng.below(kLetters.size())]);
  const std::string server = "memory-" + std::to_string(rng.below(3));
  std::vector<BlockRef> blocks;
  for (uint64_t i = rng.below(4); i > 0; --i)
    blocks.push_back(block(std::string(1, static_cast<char>('a' + rng.below(6)))));
  switch (rng.below(13)) {
    case 0:
    case 1:
      return RevisionSealed{record};
    case 2:
    case 3:
      return TagMoved{name, tag, record.digest, rng.below(3) == 0};
    case 4:
      return TagRemoved{name, tag};
    case 5:
      return RevisionRemoved{name, record.digest};
    case 6:
      return ReplicasAdded{server, blocks};
    case 7:
      return PrefetchSet{record.digest, rng.below(2) == 0};
    case 8:
      return RevisionLabelled{name, record.digest, block(name + record.digest.hex())};
    case 9:
      return OperationDone{std::string(kOperationIdBytes, static_cast<char>('a' + rng.below(20))), id("asked"), name};
    case 10:
      return LineageSet{1 + rng.below(3), rng.below(2) == 0 ? "restored" : ""};
    case 11:
      return NameOwned{name, rng.below(3) == 0 ? "default" : "vision"};
    default: {
      ReplicasLost lost{server, rng.below(4) == 0, {}};
      for (const BlockRef& one : blocks) {
        if (!lost.all) lost.blocks.push_back(one.id);
      }
      return lost;
    }
  }
}

void check_counts(const Catalogue& catalogue) {
  std::map<Digest, uint32_t> references;
  for (const auto& [digest, entry] : catalogue.revisions()) {
    RC_ASSERT(!entry.names.empty() && entry.record.name == entry.names.begin()->first);
    for (const BlockRef& one : distinct_blocks(entry.record)) ++references[one.id];
    for (const auto& [name, label] : entry.labels) {
      RC_ASSERT(entry.names.contains(name));
      ++references[label.id];
    }
  }
  size_t unreferenced = 0;
  for (const auto& [block_id, state] : catalogue.blocks()) unreferenced += state.references == 0;
  RC_ASSERT(catalogue.unreferenced().size() == unreferenced);
  for (const Digest& evicted : catalogue.evicted()) RC_ASSERT(catalogue.find(evicted) != nullptr);
  for (const auto& [block_id, state] : catalogue.blocks()) {
    RC_ASSERT(state.references == references[block_id]);
    RC_ASSERT(state.references > 0 || !state.servers.empty());
    for (const std::string& server : state.servers) {
      const std::vector<BlockRef> held = catalogue.held_by(server);
      RC_ASSERT(std::any_of(held.begin(), held.end(), [&](const BlockRef& b) { return b.id == block_id; }));
    }
  }
  for (const auto& [block_id, count] : references) RC_ASSERT(catalogue.references(block_id) == count);
  for (const auto& [name, tags] : catalogue.tags()) {
    RC_ASSERT(!tags.empty());
    for (const auto& [tag, state] : tags) {
      std::vector<Digest> all = state.history;
      all.push_back(state.revision);
      RC_ASSERT(std::adjacent_find(all.begin(), all.end()) == all.end());
      for (const Digest& target : all) RC_ASSERT(catalogue.revisions().at(target).names.contains(name));
    }
  }
}

RC_GTEST_PROP(CatalogueProperty, counts_agree_and_replay_gives_the_same, (uint64_t seed)) {
  Rng rng(seed);
  Catalogue catalogue;
  std::vector<std::string> log;
  for (int i = 0; i < 60; ++i) {
    const CatalogueEvent event = random_event(rng);
    const Digest before = catalogue.fingerprint();
    const absl::Status alone = catalogue.excerpt({&event, 1}).apply(event);
    const absl::Status applied = catalogue.apply(event);
    RC_ASSERT(alone == applied);
    if (applied.ok())
      log.push_back(encode_event(event));
    else
      RC_ASSERT(catalogue.fingerprint() == before);
    check_counts(catalogue);
  }
  Catalogue replayed;
  for (const std::string& bytes : log) RC_ASSERT(replayed.apply(*decode_event(bytes)).ok());
  RC_ASSERT(replayed.fingerprint() == catalogue.fingerprint());
  Catalogue restored;
  for (const CatalogueEvent& event : catalogue.as_events()) RC_ASSERT(restored.apply(event).ok());
  RC_ASSERT(restored.fingerprint() == catalogue.fingerprint());
  RC_ASSERT(restored.tags() == catalogue.tags());
  RC_ASSERT(restored.evicted() == catalogue.evicted());
  RC_ASSERT(restored.lineage() == catalogue.lineage());
  check_counts(restored);
}

}  // namespace
}  // namespace cenote
