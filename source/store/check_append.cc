#include "base/status.h"
#include "base/text.h"
#include "store/event_store.h"
#include "store/event_store_impl.h"

namespace cenote {

absl::StatusOr<std::vector<std::string>> encode_batch(std::span<const CatalogueEvent> events) {
  std::vector<std::string> encoded;
  for (const CatalogueEvent& event : events) {
    CENOTE_RETURN_IF_ERROR(check_event(event));
    encoded.push_back(encode_event(event));
    if (encoded.back().size() > kEventBytesMax) {
      return absl::InvalidArgumentError(str_cat("event of ", encoded.back().size(), " bytes, at most ",
                                                kEventBytesMax, ": ", describe_event(event)));
    }
  }
  return encoded;
}

absl::Status compacted_away(uint64_t from, uint64_t first) {
  return absl::OutOfRangeError(
      str_cat("events from ", from, " were compacted away, the first is ", first, ": read from there"));
}

}  // namespace cenote
