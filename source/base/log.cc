#include "base/log.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <vector>

#include "base/text.h"

namespace cenote {

absl::Status start_log(const LogOptions& options) {
  const auto level = spdlog::level::from_str(options.level);
  if (level == spdlog::level::off && options.level != "off") {
    return absl::InvalidArgumentError(
        str_cat("log level '", options.level, "': use trace, debug, info, warning, error or off"));
  }
  try {
    std::shared_ptr<spdlog::logger> logger;
    if (options.file.empty()) {
      logger = std::make_shared<spdlog::logger>(options.name, std::make_shared<spdlog::sinks::stderr_sink_mt>());
    } else {
      logger = std::make_shared<spdlog::logger>(options.name, std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
                                                                  options.file, options.file_bytes_max, 3));
    }
    logger->set_level(level);
    logger->flush_on(spdlog::level::info);
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %-7l %n: %v");
    // Threads that outlive main (gRPC's) may be in the middle of a line while spdlog's registry is destroyed.
    static std::vector<std::shared_ptr<spdlog::logger>>& kept = *new std::vector<std::shared_ptr<spdlog::logger>>;
    kept.push_back(logger);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return absl::PermissionDeniedError(str_cat("log file '", options.file, "': ", error.what()));
  }
  return absl::OkStatus();
}

}  // namespace cenote
