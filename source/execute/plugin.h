// execute/plugin.h - what an engine's plug-in shows: one symbol, kEnginePluginSymbol, of type EnginePlugin. Both sides are built together
// from the same sources, so C++ types cross; `version` refuses a file that a former build left behind.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "execute/model.h"

namespace cenote::execute {

struct EnginePlugin {
  const char* version;
  absl::StatusOr<std::unique_ptr<Engine>> (*open)(const EngineOptions& options);
};

inline constexpr const char* kEnginePluginSymbol = "cenote_engine_plugin";
inline constexpr const char* kEnginePluginVersion = "1";  // With each change of model.h, device.h or manifest.h's structs.

}  // namespace cenote::execute
