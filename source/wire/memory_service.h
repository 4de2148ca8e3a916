// wire/memory_service.h - a memory server's calls as functions over message/ structs. Handlers run on gRPC's threads and must not
// block; each calls its `done` exactly once, from any thread, also after the caller went away.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "grpcpp/impl/service_type.h"
#include "message/control.h"
#include "wire/convert_record.h"

namespace cenote::wire {

template <typename Result>
using Done = std::function<void(Result)>;

struct MemoryHandlers {
  std::function<void(GrantAsk, Done<absl::StatusOr<Grant>>)> grant;
  std::function<void(SlabAsk, Done<absl::StatusOr<SlabInfo>>)> open;
  std::function<void(SealAsk, Done<absl::StatusOr<SealResult>>)> seal;
  std::function<void(uint64_t slab, Incarnation incarnation, Done<absl::Status>)> abandon;
};

std::unique_ptr<grpc::Service> make_memory_service(MemoryHandlers handlers);

}  // namespace cenote::wire
