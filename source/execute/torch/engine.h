// execute/torch/engine.h - the engine itself, for this plug-in and for tests that link it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "execute/model.h"

namespace cenote::execute {

// kInvalidArgument: a thread count out of bounds.
absl::StatusOr<std::unique_ptr<Engine>> open_torch_engine(const EngineOptions& options);

}  // namespace cenote::execute
