// store/event_store.h - where the catalogue's events are kept. What append() has acknowledged survives the
// process, and with a durable store the machine. Single owner thread; calls block on the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/events.h"

namespace cenote {

inline constexpr size_t kEventsPerAppendMax = 1 << 16;  // As many tags and revisions one removal may end.

struct StoredEvent {
  uint64_t sequence = 0;
  CatalogueEvent event;
};

class EventStore {
 public:
  virtual ~EventStore() = default;
  // All or none; returns the sequence of the last. Sequences begin at 1 and rise by one, also across
  // compact(). kInvalidArgument: none, too many or too large; kResourceExhausted: the disk is full;
  // kDataLoss: the store is damaged.
  virtual absl::StatusOr<uint64_t> append(std::span<const CatalogueEvent> events) = 0;
  // Events with sequence >= `from`, in order, at most `limit`; empty at the end.
  // kOutOfRange: `from` was compacted away: read from first(). kDataLoss names the sequence that does not
  // decode.
  virtual absl::StatusOr<std::vector<StoredEvent>> read(uint64_t from, size_t limit) = 0;
  // Replaces all events by `snapshot` (Catalogue::as_events()), which get the sequences after last(). All or
  // none.
  virtual absl::Status compact(std::span<const CatalogueEvent> snapshot) = 0;
  virtual uint64_t first() const = 0;  // Lowest sequence there is; last() + 1 if empty.
  virtual uint64_t last() const = 0;   // 0: never any.
};

// In memory: for tests and simulation.
std::unique_ptr<EventStore> open_memory_store();

// A SQLite file in WAL mode, synchronous=FULL; made if absent (its directory must exist). Held exclusively
// while open. kDataLoss: not a catalogue or damaged, with the remedy; kFailedPrecondition: written by a newer
// Cenote; kAlreadyExists: another process has it open; kPermissionDenied, kNotFound, kResourceExhausted: the
// file system's.
absl::StatusOr<std::unique_ptr<EventStore>> open_sqlite_store(const std::string& path);

}  // namespace cenote
