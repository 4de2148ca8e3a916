// device/host/host_device.h - computes where the cache lies. It has no memory of its own to reserve; a copy is a memcpy.
#pragma once

#include <memory>

#include "device/device.h"

namespace cenote::device {

std::unique_ptr<Device> make_host_device(const DeviceOptions& options);

}  // namespace cenote::device
