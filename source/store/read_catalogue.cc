#include "store/read_catalogue.h"

#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

constexpr size_t kReadBatch = 1024;
constexpr uint64_t kCompactFactor = 4;
constexpr uint64_t kCompactFloor = 4096;

}  // namespace

absl::StatusOr<Catalogue> read_catalogue(EventStore& store) {
  Catalogue catalogue;
  for (uint64_t from = store.first(); from <= store.last();) {
    CENOTE_ASSIGN_OR_RETURN(const std::vector<StoredEvent> events, store.read(from, kReadBatch));
    if (events.empty()) break;
    for (const StoredEvent& stored : events) {
      if (const absl::Status applied = catalogue.apply(stored.event); !applied.ok()) {
        return absl::DataLossError(str_cat("event ", stored.sequence, " of the catalogue (", describe_event(stored.event), ") does not fit those before it: ", to_std(applied.message()),
                                           "; restore it from a backup: cenote restore FILE"));
      }
    }
    from = events.back().sequence + 1;
  }
  return catalogue;
}

absl::Status compact_if_long(EventStore& store, const Catalogue& catalogue) {
  const std::vector<CatalogueEvent> snapshot = catalogue.as_events();
  if (store.last() + 1 - store.first() <= kCompactFloor + kCompactFactor * snapshot.size()) return absl::OkStatus();
  return store.compact(snapshot);
}

absl::StatusOr<EventPage> read_event_page(EventStore& store, const std::string& cluster, uint64_t from) {
  EventPage page{.cluster = cluster, .first = from == 0 ? store.first() : from, .last = store.last()};
  size_t bytes = 0;
  while (bytes < kEventPageBytes && page.first + page.events.size() <= page.last) {
    // One at a time: events are of very different sizes.
    CENOTE_ASSIGN_OR_RETURN(const std::vector<StoredEvent> events, store.read(page.first + page.events.size(), 1));
    if (events.empty()) break;
    page.events.push_back(encode_event(events.front().event));
    bytes += page.events.back().size();
  }
  return page;
}

}  // namespace cenote
