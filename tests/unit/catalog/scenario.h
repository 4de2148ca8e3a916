// tests/unit/catalog/scenario.h - small revisions for tests of the catalogue.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/hash.h"
#include "catalog/catalogue.h"

namespace cenote {

inline Digest id(const std::string& seed) {
  return sha256(as_bytes(seed));
}
inline BlockRef block(const std::string& seed) {
  return {id("block " + seed), 4096};
}

// A revision of `name` whose weights are one block per letter of `letters`; its digest depends on the letters
// only.
inline RevisionRecord revision(const std::string& name, const std::string& letters) {
  RevisionRecord record{.digest = id("revision " + letters),
                        .name = name,
                        .manifest_bytes = 100,
                        .manifest_blocks = {{id("manifest " + letters), 100}},
                        .created_us = static_cast<int64_t>(name.size())};
  for (char letter : letters) record.blocks.push_back(block(std::string(1, letter)));
  record.weight_bytes = 4096 * letters.size();
  return record;
}

inline void apply_all(Catalogue& catalogue, const std::vector<CatalogueEvent>& events) {
  for (const CatalogueEvent& event : events) {
    const absl::Status status = catalogue.apply(event);
    ASSERT_TRUE(status.ok()) << describe_event(event) << ": " << status;
  }
}

}  // namespace cenote
