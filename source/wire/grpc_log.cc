#include "wire/grpc_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <cstdlib>
#include <mutex>

#include "absl/synchronization/mutex.h"
#include "base/log.h"

namespace cenote::wire {

void quiet_grpc_log() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Debian builds Abseil with the search for lock cycles on; for gRPC's own mutexes that is 2 to 4 % of a message's cost.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    gpr_set_log_function([](gpr_log_func_args* line) { LOG_DEBUG("grpc: {} ({}:{})", line->message, line->file, line->line); });
    google::protobuf::SetLogHandler([](google::protobuf::LogLevel, const char* file, int line, const std::string& message) {
      LOG_DEBUG("protobuf: {} ({}:{})", message, file, line);
    });
    // Their threads outlive main; what they log goes through is destroyed after this.
    std::atexit([] {
      gpr_set_log_function([](gpr_log_func_args*) {});
      google::protobuf::SetLogHandler(nullptr);
    });
  });
}

}  // namespace cenote::wire
