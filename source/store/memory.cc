#include <deque>

#include "base/status.h"
#include "base/text.h"
#include "store/event_store.h"
#include "store/event_store_impl.h"

namespace cenote {
namespace {

// Keeps the encoded form, so that what comes back has passed through the format as it would from a disk.
class MemoryStore : public EventStore {
 public:
  absl::StatusOr<uint64_t> append(std::span<const CatalogueEvent> events) override {
    if (events.empty() || events.size() > kEventsPerAppendMax) {
      return absl::InvalidArgumentError(
          str_cat("append of ", events.size(), " events, 1 to ", kEventsPerAppendMax));
    }
    CENOTE_ASSIGN_OR_RETURN(std::vector<std::string> encoded, encode_batch(events));
    for (std::string& event : encoded) events_.push_back(std::move(event));
    return last();
  }

  absl::StatusOr<std::vector<StoredEvent>> read(uint64_t from, size_t limit) override {
    if (from < first_) return compacted_away(from, first_);
    std::vector<StoredEvent> result;
    for (uint64_t sequence = from; sequence <= last() && result.size() < limit; ++sequence) {
      CENOTE_ASSIGN_OR_RETURN(CatalogueEvent event, decode_event(events_[sequence - first_]));
      result.push_back({sequence, std::move(event)});
    }
    return result;
  }

  absl::Status compact(std::span<const CatalogueEvent> snapshot) override {
    CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string> encoded, encode_batch(snapshot));
    first_ = last() + 1;
    events_.assign(encoded.begin(), encoded.end());
    return absl::OkStatus();
  }

  uint64_t first() const override { return first_; }
  uint64_t last() const override { return first_ + events_.size() - 1; }

 private:
  std::deque<std::string> events_;
  uint64_t first_ = 1;
};

}  // namespace

std::unique_ptr<EventStore> open_memory_store() {
  return std::make_unique<MemoryStore>();
}

}  // namespace cenote
