#include "execute/torch/failures.h"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "base/text.h"

namespace cenote::execute {
namespace {

// Libraries append stack traces and hints after the first line or two.
std::string_view first_line(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  return text.substr(0, 400);
}

bool says_no_memory(std::string_view text) {
  return text.find("can't allocate memory") != text.npos || text.find("not enough memory") != text.npos ||
         text.find("Cannot allocate memory") != text.npos;
}

}  // namespace

absl::Status status_of(const std::exception_ptr& failure, const std::string& what) {
  try {
    std::rethrow_exception(failure);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const std::string message = str_cat(what, ": ", first_line(text));
    if (says_no_memory(text)) return absl::ResourceExhaustedError(message);
    const bool caller = dynamic_cast<const c10::IndexError*>(&error) || dynamic_cast<const c10::ValueError*>(&error);
    return caller ? absl::InvalidArgumentError(message) : absl::InternalError(message);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(what + ": out of memory; use a smaller batch");
  } catch (const std::exception& error) {
    const std::string_view text = error.what();
    const std::string message = str_cat(what, ": ", first_line(text));
    return says_no_memory(text) ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
  } catch (...) {
    return absl::InternalError(what + ": an exception of unknown type");
  }
}

}  // namespace cenote::execute
