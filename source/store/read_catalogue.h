// store/read_catalogue.h - a catalogue from its stored events. Single owner thread; blocks on the disk.
#pragma once

#include "absl/status/statusor.h"
#include "catalog/catalogue.h"
#include "store/event_store.h"

namespace cenote {

// kDataLoss names the event that does not fit those before it; otherwise EventStore::read's errors.
absl::StatusOr<Catalogue> read_catalogue(EventStore& store);

// Writes the catalogue's snapshot in the place of a log that is much longer. All or none: on an error the log is as before.
absl::Status compact_if_long(EventStore& store, const Catalogue& catalogue);

}  // namespace cenote
