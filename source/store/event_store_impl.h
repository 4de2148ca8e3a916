// store/event_store_impl.h - shared by the implementations. Not for other rooms.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/events.h"

namespace cenote {

// Encodes a batch, refusing what no store may keep.
absl::StatusOr<std::vector<std::string>> encode_batch(std::span<const CatalogueEvent> events);

absl::Status compacted_away(uint64_t from, uint64_t first);

}  // namespace cenote
