// bin/stop_signal.h - SIGTERM and SIGINT as a file descriptor that becomes readable and stays so.
#pragma once

#include "absl/status/statusor.h"

namespace cenote {

// Blocks both signals for this thread and those it starts: call it first in main. The descriptor is a signalfd that nobody reads, so
// it is level-triggered for every poller; it lives as long as the process.
absl::StatusOr<int> open_stop_signal();

// libfabric brings libraries (PSM) that take over the signals of a crash when they are loaded, and end the process with exit code 1, as
// if it had given up. Gives those signals back; a sanitizer's handlers stay. Call it in main, before threads.
void take_back_crash_signals();

}  // namespace cenote
