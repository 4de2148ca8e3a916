#include "base/status.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace cenote {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

absl::Status annotate(const absl::Status& status, std::string_view prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(), str_cat(prefix, ": ", status.message()));
}

int exit_code(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk: return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange: return 2;
    case absl::StatusCode::kUnavailable: return 3;
    case absl::StatusCode::kNotFound: return 4;
    case absl::StatusCode::kDataLoss: return 5;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition: return 6;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated: return 7;
    case absl::StatusCode::kDeadlineExceeded: return 124;
    case absl::StatusCode::kCancelled: return 130;
    default: return 1;
  }
}

absl::Status errno_status(int error, std::string_view what) {
  const std::string message = str_cat(what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT: return absl::NotFoundError(message);
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE: return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM: return absl::PermissionDeniedError(message);
    case EEXIST:
    case EADDRINUSE: return absl::AlreadyExistsError(message);
    case EINVAL: return absl::InvalidArgumentError(message);
    default: return absl::InternalError(message);
  }
}

}  // namespace cenote
