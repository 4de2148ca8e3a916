// node/memory_server_impl.h - what the files of the memory server share. For memory_server*.cc only.
#pragma once

#include "base/clock.h"

namespace cenote::node {

// Holders count a grant from before their request left; what is added here is for clocks that do not run equally fast (monotonic
// clocks are slewed by at most 500 ppm).
inline Duration with_drift(Duration duration) { return {duration.ns + duration.ns / 512 + Duration::from_ms(1).ns}; }

}  // namespace cenote::node
