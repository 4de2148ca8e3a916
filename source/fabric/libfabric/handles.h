// fabric/libfabric/handles.h - owning handles of libfabric's objects; each is closed when it goes.
#pragma once

#include <memory>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>

#include "base/log.h"

namespace cenote::fabric {

template <typename Object>
struct FidCloser {
  void operator()(Object* object) const {
    const size_t kind = object->fid.fclass;
    if (const int error = fi_close(&object->fid); error != 0) {
      LOG_WARNING("libfabric: closing a fid of class {}: {}", kind, fi_strerror(-error));
    }
  }
};
template <typename Object>
using Fid = std::unique_ptr<Object, FidCloser<Object>>;

struct InfoFreer {
  void operator()(fi_info* info) const { fi_freeinfo(info); }
};
using Info = std::unique_ptr<fi_info, InfoFreer>;

}  // namespace cenote::fabric
