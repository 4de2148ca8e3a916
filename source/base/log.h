// base/log.h - one-line logs through spdlog: "2026-01-31T12:00:00.123 info  agent-0: text key=value".
// LOG_INFO("fetched {} blocks from {}", count, server). Any thread. Text on a terminal and in files alike.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <spdlog/spdlog.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// Status messages are absl::string_view, which is not std::string_view in Debian's build of Abseil.
template <>
struct fmt::formatter<absl::string_view> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::string_view text, Context& context) const {
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};

namespace cenote {

struct LogOptions {
  std::string name;                 // The daemon, e.g. "memory-0"; printed on every line.
  std::string level = "info";       // trace, debug, info, warning, error.
  std::string file;                 // Empty: standard error.
  size_t file_bytes_max = 16 << 20; // Rotated at this size; three old files are kept.
};

// Once, at the start of main. kInvalidArgument for an unknown level; kPermissionDenied etc. if the file cannot be made.
absl::Status start_log(const LogOptions& options);

}  // namespace cenote

#define LOG_DEBUG(...) ::spdlog::debug(__VA_ARGS__)
#define LOG_INFO(...) ::spdlog::info(__VA_ARGS__)
#define LOG_WARNING(...) ::spdlog::warn(__VA_ARGS__)
#define LOG_ERROR(...) ::spdlog::error(__VA_ARGS__)
