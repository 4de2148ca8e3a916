#include <charconv>

#include "base/status.h"
#include "device/device.h"
#include "device/emulated/emulated_device.h"
#include "device/host/host_device.h"

namespace cenote::device {

absl::StatusOr<std::unique_ptr<Device>> open_device(const DeviceOptions& options) {
  const size_t colon = options.name.find(':');
  const std::string kind = options.name.substr(0, colon);
  uint32_t index = 0;
  const char* end = options.name.data() + options.name.size();
  const char* digits = colon == std::string::npos ? end : options.name.data() + colon + 1;
  const auto [stopped, error] = std::from_chars(digits, end, index);
  if (error != std::errc() || stopped != end) {
    return absl::InvalidArgumentError(str_cat("device \"", options.name, "\" must be KIND:INDEX, e.g. host:0"));
  }
  if (kind == "host") return make_host_device(options);
  if (kind == "emulated") return make_emulated_device(options);
  if (kind == "cuda") {
    return absl::UnimplementedError(str_cat("device ", options.name, ": this build has no CUDA plug-in; use host:N or emulated:N"));
  }
  return absl::InvalidArgumentError(str_cat("device \"", options.name, "\": unknown kind \"", kind, "\"; known: host, emulated, cuda"));
}

}  // namespace cenote::device
