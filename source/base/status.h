// base/status.h - the one error vocabulary: absl::Status, with early-return macros and the meaning of each code.
//
// Operations return absl::Status or absl::StatusOr; bugs are CENOTE_CHECKed; exceptions end at the borders of the
// library that throws them. A message names the thing, the value, the limit and the remedy.
//
//   kInvalidArgument    the caller's input is wrong                       (exit code 2 in `cenote`)
//   kUnavailable        a peer is dead, silent or restarting; retry       (3)
//   kNotFound           no such name, tag, revision, block                (4)
//   kDataLoss           bytes do not match their checksum                 (5)
//   kResourceExhausted  a queue, pool, cache or credit limit              (6)
//   kAlreadyExists, kFailedPrecondition  refused by policy or state       (6)
//   kPermissionDenied, kUnauthenticated  not allowed                      (7)
//   kDeadlineExceeded   the deadline passed                               (124)
//   kCancelled          interrupted                                       (130)
//   kUnimplemented      this build or machine has no such ability; message says why
//   kInternal           a bug of ours, or a library's unexplained error   (1)
#pragma once

#include <cstdlib>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/text.h"

#define CENOTE_CONCAT_INNER(a, b) a##b
#define CENOTE_CONCAT(a, b) CENOTE_CONCAT_INNER(a, b)

// Returns the status from the enclosing function if it is not ok.
#define CENOTE_RETURN_IF_ERROR(expression)                                   \
  do {                                                                       \
    if (absl::Status cenote_status = (expression); !cenote_status.ok()) {    \
      return cenote_status;                                                  \
    }                                                                        \
  } while (false)

// CENOTE_ASSIGN_OR_RETURN(auto x, f()): declares or assigns x, or returns f()'s status.
#define CENOTE_ASSIGN_OR_RETURN(target, expression) \
  CENOTE_ASSIGN_OR_RETURN_INNER(CENOTE_CONCAT(cenote_result_, __LINE__), target, expression)
#define CENOTE_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return result.status();                       \
  target = *std::move(result)

// A broken invariant: prints the condition and place, then aborts. On in every build type.
#define CENOTE_CHECK(condition)                                            \
  do {                                                                     \
    if (!(condition)) [[unlikely]] {                                       \
      ::cenote::check_failed(#condition, __FILE__, __LINE__);              \
    }                                                                      \
  } while (false)

namespace cenote {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

// `status` with "prefix: " before its message; ok stays ok.
absl::Status annotate(const absl::Status& status, std::string_view prefix);

// The exit code of `cenote` and `cenoted` for a code (design section 8).
int exit_code(absl::StatusCode code);

// A Status from errno: ENOENT -> kNotFound, ENOSPC/ENOMEM -> kResourceExhausted, EACCES -> kPermissionDenied,
// EADDRINUSE -> kAlreadyExists, the rest kInternal. Message: "what: strerror".
absl::Status errno_status(int error, std::string_view what);

}  // namespace cenote
