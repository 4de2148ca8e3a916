// bin/open_files.h - how many files this process may have open.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace cenote {

// Raises the soft limit to the hard one, which needs no right; returns what holds then.
inline uint64_t raise_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

}  // namespace cenote
