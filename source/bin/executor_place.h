// bin/executor_place.h - where the settings name an executor.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "bin/roles.h"

namespace cenote {

// An executor's place in the settings: its name is AGENT/DEVICE.
struct ExecutorPlace {
  const AgentSettings* agent = nullptr;
  const DeviceSettings* device = nullptr;
};
inline absl::StatusOr<ExecutorPlace> find_executor_place(const RoleContext& context) {
  const size_t slash = context.name.find('/');
  ExecutorPlace place;
  if (slash != std::string::npos) place.agent = context.settings.agent(context.name.substr(0, slash));
  if (place.agent != nullptr) {
    for (const DeviceSettings& device : place.agent->devices) {
      if (device.name == context.name.substr(slash + 1)) place.device = &device;
    }
  }
  if (place.device != nullptr) return place;
  return absl::InvalidArgumentError(str_cat(context.settings.file, " has no executor named ", context.name,
                                            "; write AGENT/DEVICE, both as its [[agent]] and [[agent.device]] sections name them"));
}

}  // namespace cenote
