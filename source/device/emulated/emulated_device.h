// device/emulated/emulated_device.h - an exclusive device of which this machine has none: memory of its own, copies that cost
// bytes / bandwidth, computing that takes at least its calibrated time. It sleeps, it does not spin. Figures made with it say so.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "device/device.h"

namespace cenote::device {

absl::StatusOr<std::unique_ptr<Device>> make_emulated_device(const DeviceOptions& options);

}  // namespace cenote::device
