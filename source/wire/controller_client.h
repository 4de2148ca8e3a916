// wire/controller_client.h - the controller's unary calls, for people's tools. Blocking, thread-safe. Errors: the controller's own
// (kNotFound names near names, kAlreadyExists, kResourceExhausted, ...), kUnavailable, kDeadlineExceeded, kCancelled.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "message/control.h"
#include "wire/cancellation.h"
#include "wire/credentials.h"

namespace cenote::wire {

struct CallOptions {
  Duration timeout = Duration::from_seconds(10);
  Cancellation* cancellation = nullptr;
};

class ControllerClient {
 public:
  // Connects at the first call; `address` is host:port.
  static std::unique_ptr<ControllerClient> open(const std::string& address, const Identity& identity);
  virtual ~ControllerClient() = default;

  virtual absl::StatusOr<DeployPlan> begin_deploy(const DeployRequest& request, const CallOptions& options) = 0;
  virtual absl::Status renew_deploy(uint64_t deploy, const CallOptions& options) = 0;
  virtual absl::StatusOr<DeployResult> commit_deploy(uint64_t deploy, const RevisionRecord& record, const std::string& operation, const CallOptions& options) = 0;
  virtual absl::Status abort_deploy(uint64_t deploy, const CallOptions& options) = 0;

  // `operation`: 16 random bytes, the same when a change is asked for again because its answer did not come: the change is made once,
  // and its answer given again. Empty: each call is a change of its own.
  // `model`: "name@digest" for publish (tag "" = latest), "name[:tag]" for rollback, any of these or a bare name for the others.
  virtual absl::StatusOr<TagMove> publish(const std::string& model, const std::string& tag, const std::string& operation, const CallOptions& options) = 0;
  virtual absl::StatusOr<TagMove> rollback(const std::string& model, const std::string& operation, const CallOptions& options) = 0;
  virtual absl::StatusOr<Removal> remove(const std::string& model, const std::string& operation, const CallOptions& options) = 0;
  virtual absl::Status evict(const std::string& model, const CallOptions& options) = 0;
  // `model` empty: all. `blocks`: with the records' block lists.
  virtual absl::StatusOr<std::vector<ModelInfo>> models(const std::string& model, bool blocks, const CallOptions& options) = 0;
  virtual absl::StatusOr<ClusterStatus> cluster(const CallOptions& options) = 0;
  // ---- keeping the catalogue, see message/control.h
  virtual absl::StatusOr<EventPage> read_events(uint64_t from, const CallOptions& options) = 0;
  virtual absl::StatusOr<Unclaimed> find_unclaimed(const CallOptions& options) = 0;
  virtual absl::StatusOr<DeployResult> adopt(const RevisionRecord& record, const CallOptions& options) = 0;
  virtual absl::Status hold_drops(bool hold, const CallOptions& options) = 0;
  virtual absl::Status drain(const std::string& member, const CallOptions& options) = 0;
};

}  // namespace cenote::wire
