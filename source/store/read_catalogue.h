// store/read_catalogue.h - a catalogue from its stored events. Single owner thread; blocks on the disk.
#pragma once

#include "absl/status/statusor.h"
#include "catalog/catalogue.h"
#include "message/control.h"
#include "store/event_store.h"

namespace cenote {

// kDataLoss names the event that does not fit those before it; otherwise EventStore::read's errors.
absl::StatusOr<Catalogue> read_catalogue(EventStore& store);

// Writes the catalogue's snapshot in the place of a log that is much longer. All or none: on an error the log is as before.
absl::Status compact_if_long(EventStore& store, const Catalogue& catalogue);

// The stored events from sequence `from` on (0: the first), encoded: at least one, then until kEventPageBytes are reached. Empty at the end.
inline constexpr size_t kEventPageBytes = 4 << 20;
absl::StatusOr<EventPage> read_event_page(EventStore& store, const std::string& cluster, uint64_t from);

}  // namespace cenote
