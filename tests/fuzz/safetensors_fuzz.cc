// Goal: tensors of an accepted header lie within the file, one after another, with the bytes of their shapes.
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "catalog/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  const auto views = parse_safetensors(std::string_view(reinterpret_cast<const char*>(data), size), size);
  if (!views.ok()) {
    CENOTE_CHECK(absl::IsInvalidArgument(views.status()) && !views.status().message().empty());
    return 0;
  }
  uint64_t end = views->empty() ? size : views->front().begin;
  for (const SafetensorsView& view : *views) {
    CENOTE_CHECK(view.begin == end && view.end >= view.begin && view.end <= size);
    CENOTE_CHECK(static_cast<uint64_t>(*element_count(view.shape)) * dtype_bytes(view.dtype) ==
                 view.end - view.begin);
    end = view.end;
  }
  CENOTE_CHECK(end == size);
  return 0;
}
