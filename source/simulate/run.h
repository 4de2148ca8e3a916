// simulate/run.h - one seed from start to end: a cluster, what people ask of it and what befalls it, then peace, and what must be so then.
#pragma once

#include <cstdint>
#include <string>

namespace cenote::simulate {

struct RunResult {
  std::string failure;         // Empty: every invariant held.
  uint64_t hash = 0;           // Of all that happened: the same for the same seed.
  uint64_t actions = 0;
  uint64_t requests = 0;
  uint64_t succeeded = 0;
  uint64_t faults = 0;
  uint64_t events = 0;         // Of the catalogue.
};

RunResult run_seed(uint64_t seed, bool tracing);

}  // namespace cenote::simulate
