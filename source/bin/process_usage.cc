#include "bin/process_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace cenote {
namespace {

const Instant kStarted = monotonic_now();

}  // namespace

void fill_process_usage(MemberReport& report) {
  report.pid = ::getpid();
  report.rss_bytes = process_usage(report.pid).rss_bytes;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  report.cpu_seconds = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  report.uptime_us = (monotonic_now() - kStarted).us();
  report.wall_clock_us = wall_clock_us();
}

ProcessUsage process_usage(int64_t pid) {
  ProcessUsage usage;
  const std::string directory = str_cat("/proc/", pid);
  uint64_t size_pages = 0, resident_pages = 0;
  if (std::ifstream(directory + "/statm") >> size_pages >> resident_pages) {
    usage.rss_bytes = resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  std::string line;
  if (std::getline(std::ifstream(directory + "/stat"), line)) {
    // After the parenthesised name (which may hold anything): state is field 3, utime 14, stime 15.
    size_t at = line.rfind(')');
    for (int field = 2; field < 14 && at != std::string::npos; ++field) at = line.find(' ', at + 1);
    if (at != std::string::npos) {
      char* end = nullptr;
      const double user = std::strtod(line.c_str() + at, &end);
      const double system = std::strtod(end, nullptr);
      usage.cpu_seconds = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    }
  }
  return usage;
}

}  // namespace cenote
