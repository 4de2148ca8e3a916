// Goal: an event that decodes has exactly the bytes it came from, and a catalogue takes or refuses it without
// losing its counts. Input: events, each after a u32 length.
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "catalog/catalogue.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  ByteReader in(std::string_view(reinterpret_cast<const char*>(data), size));
  Catalogue catalogue;
  while (in.ok() && in.left() > 0) {
    const std::string_view bytes = in.text(1 << 20);
    if (!in.ok()) break;
    const absl::StatusOr<CatalogueEvent> event = decode_event(bytes);
    if (!event.ok()) continue;
    CENOTE_CHECK(encode_event(*event) == bytes);
    const Digest before = catalogue.fingerprint();
    if (!catalogue.apply(*event).ok()) CENOTE_CHECK(catalogue.fingerprint() == before);
  }
  Catalogue again;
  for (const CatalogueEvent& event : catalogue.as_events()) CENOTE_CHECK(again.apply(event).ok());
  CENOTE_CHECK(again.fingerprint() == catalogue.fingerprint());
  return 0;
}
