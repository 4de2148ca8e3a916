// bin/stop_signal.h - SIGTERM and SIGINT as a file descriptor that becomes readable and stays so.
#pragma once

#include "absl/status/statusor.h"

namespace cenote {

// Blocks both signals for this thread and those it starts: call it first in main. The descriptor is a signalfd that nobody reads, so
// it is level-triggered for every poller; it lives as long as the process.
absl::StatusOr<int> open_stop_signal();

}  // namespace cenote
