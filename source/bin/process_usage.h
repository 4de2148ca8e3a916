// bin/process_usage.h - what a daemon costs, for its heartbeat.
#pragma once

#include "message/member.h"

namespace cenote {

// Fills pid, rss_bytes, cpu_seconds, uptime_us and wall_clock_us of this process.
void fill_process_usage(MemberReport& report);

// For a tool that asks about another process of this host; zeros if it is gone.
struct ProcessUsage {
  uint64_t rss_bytes = 0;
  double cpu_seconds = 0;
};
ProcessUsage process_usage(int64_t pid);

}  // namespace cenote
