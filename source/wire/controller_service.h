// wire/controller_service.h - the controller's calls and its members' Join streams as functions over message/ structs. Handlers run on
// gRPC's threads and must not block; each unary one calls its `done` exactly once, from any thread, also after the caller went away.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/impl/service_type.h"
#include "message/caller.h"
#include "message/control.h"
#include "message/member.h"
#include "wire/memory_service.h"

namespace cenote::wire {

// The controller's end of a Join. Thread-safe.
class MemberStream {
 public:
  virtual ~MemberStream() = default;
  // Replaces a directive of the same kind that still waits: a slow reader gets the newest only.
  virtual void send(const Directive& directive) = 0;
  // Says why, then ends the stream.
  virtual void refuse(const absl::Status& status) = 0;
  virtual void cancel() = 0;
};

struct ControllerHandlers {
  // `stream`: never used twice. joined comes first, ended last and once; reports in order, one at a time. Only daemons may join.
  std::function<void(uint64_t stream, std::shared_ptr<MemberStream>)> joined;
  std::function<void(uint64_t stream, MemberReport)> reported;
  std::function<void(uint64_t stream, Duration next)> beat;  // ControllerLink::beat(); may come before the first report.
  std::function<void(uint64_t stream)> ended;
  // `Caller`: of its certificate, whose role may make the call (wire/gate.h); whose models these are is for the handler to ask.
  // `budget`: what the caller's deadline leaves, less a margin for the answer's way back.
  std::function<void(Caller, DeployRequest, Duration budget, Done<absl::StatusOr<DeployPlan>>)> begin;
  std::function<void(Caller, uint64_t deploy, Done<absl::Status>)> renew;
  std::function<void(Caller, uint64_t deploy, RevisionRecord, std::string operation, Duration budget, Done<absl::StatusOr<DeployResult>>)> commit;
  std::function<void(Caller, uint64_t deploy, Done<absl::Status>)> abort;
  std::function<void(Caller, std::string model, std::string tag, std::string operation, Done<absl::StatusOr<TagMove>>)> publish;
  std::function<void(Caller, std::string model, std::string operation, Done<absl::StatusOr<TagMove>>)> rollback;
  std::function<void(Caller, std::string model, std::string operation, Done<absl::StatusOr<Removal>>)> remove;
  std::function<void(Caller, std::string model, Done<absl::Status>)> evict;
  std::function<void(std::string model, bool blocks, Done<absl::StatusOr<std::vector<ModelInfo>>>)> models;
  std::function<void(Done<absl::StatusOr<ClusterStatus>>)> cluster;
  std::function<void(uint64_t from, Done<absl::StatusOr<EventPage>>)> read_events;
  std::function<void(Done<absl::StatusOr<Unclaimed>>)> find_unclaimed;
  std::function<void(Caller, RevisionRecord, Done<absl::StatusOr<DeployResult>>)> adopt;
  std::function<void(Caller, bool hold, Done<absl::Status>)> hold_drops;
  std::function<void(Caller, std::string member, Done<absl::Status>)> drain;
};

std::unique_ptr<grpc::Service> make_controller_service(ControllerHandlers handlers);

}  // namespace cenote::wire
