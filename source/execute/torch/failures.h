// execute/torch/failures.h - exceptions of libtorch as Status; none crosses this room's border.
#pragma once

#include <exception>
#include <string>

#include "absl/status/status.h"

namespace cenote::execute {

// Call from a catch block with std::current_exception().
// No memory: kResourceExhausted. An index or value out of range: kInvalidArgument (what the caller sent does not fit the model).
// Anything else: kInternal. The message is "`what`: the first line of the library's".
absl::Status status_of(const std::exception_ptr& failure, const std::string& what);

}  // namespace cenote::execute
