// fabric/libfabric/library.h - libfabric's shared library, loaded when it is first used: loading it takes a fifth of a second (PSM, which
// it brings, measures the clock), and most processes of Cenote never speak to a fabric.
#pragma once

#include "absl/status/status.h"

namespace cenote::fabric {

// Every entry into libfabric calls this first; its functions may not be called unless it said ok. Signal handlers are afterwards what they
// were before. Sets what libfabric reads from the environment, where the user has not: the first caller should be alone (setenv).
// kUnimplemented: the library does not load, or is older than the headers this was built with. Thread-safe.
absl::Status load_libfabric();

}  // namespace cenote::fabric
