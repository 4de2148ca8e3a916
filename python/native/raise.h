// native/raise.h - absl::Status to the one Python exception, cenote.Error.
#pragma once

#include <utility>

#include <pybind11/pybind11.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cenote::native {

// Throws cenote.errors.Error with the code's name in lower case and the message. Needs the GIL.
[[noreturn]] void raise(const absl::Status& status);

inline void check(const absl::Status& status) {
  if (!status.ok()) raise(status);
}

template <typename T>
T check(absl::StatusOr<T> result) {
  if (!result.ok()) raise(result.status());
  return *std::move(result);
}

// f() without the GIL; its Status or StatusOr is checked with it.
template <typename F>
auto call(F&& f) {
  auto result = [&] {
    pybind11::gil_scoped_release release;
    return f();
  }();
  return check(std::move(result));
}

}  // namespace cenote::native
