// native/link_handle.h - owns what speaks to daemons: ended without the GIL, since that waits for threads; and only by the process that
// made it. A forked child has the sockets but not the threads: ending them there would hang, or shut the parent's connections.
#pragma once

#include <unistd.h>

#include <memory>

#include <pybind11/pybind11.h>

namespace cenote::native {

template <typename Link>
struct EndLink {
  pid_t opened_by = ::getpid();
  void operator()(Link* link) const {
    if (::getpid() != opened_by) return;
    const pybind11::gil_scoped_release release;
    delete link;
  }
};
template <typename Link>
using LinkHandle = std::unique_ptr<Link, EndLink<Link>>;

}  // namespace cenote::native
