#include "wire/gate.h"

#include <ctime>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/status.h"
#include "wire/caller.h"
#include "wire/permissions.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

class Gate final : public grpc::AuthMetadataProcessor {
 public:
  Gate(std::string cluster, std::shared_ptr<RevokedCertificates> revoked) : cluster_(std::move(cluster)), revoked_(std::move(revoked)) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata*, OutputMetadata*) override {
    const auto path = metadata.find(":path");
    const absl::Status status = path == metadata.end() ? absl::InternalError("a call without a path")
                                                       : admit({path->second.data(), path->second.size()}, *context);
    if (!status.ok()) LOG_WARNING("refused: {}", to_std(status.message()));
    return to_grpc(status);
  }

 private:
  absl::Status admit(std::string_view path, const grpc::AuthContext& context) {
    CENOTE_ASSIGN_OR_RETURN(const Caller caller, caller_of(context));
    CENOTE_RETURN_IF_ERROR(check_caller(caller, cluster_, std::time(nullptr), *revoked_));
    return permit(path, caller);
  }

  const std::string cluster_;
  const std::shared_ptr<RevokedCertificates> revoked_;
};

}  // namespace

absl::Status check_caller(const Caller& caller, const std::string& cluster, int64_t now_s, RevokedCertificates& revoked) {
  const std::string who = describe_caller(caller);
  if (!caller.cluster.empty() && !cluster.empty() && caller.cluster != cluster) {
    return absl::PermissionDeniedError(str_cat(who, " has a certificate of cluster '", caller.cluster, "', this is '", cluster, "': take the one of this cluster"));
  }
  if (caller.expires_s != 0 && caller.expires_s < now_s) {
    return absl::UnauthenticatedError(str_cat("the certificate of ", who, " expired ", absl::FormatTime(absl::RFC3339_sec, absl::FromUnixSeconds(caller.expires_s), absl::UTCTimeZone()),
                                              "; the cluster's operator issues another: `cenote certificates issue`; on its own machine `cenote certificates rotate` does"));
  }
  if (!caller.serial.empty() && revoked.contains(caller.serial)) {
    return absl::PermissionDeniedError(str_cat("the certificate ", caller.serial, " of ", who, " was revoked; the cluster's operator issues another: `cenote certificates issue`"));
  }
  return absl::OkStatus();
}

std::shared_ptr<grpc::AuthMetadataProcessor> make_gate(std::string cluster, std::shared_ptr<RevokedCertificates> revoked) {
  return std::make_shared<Gate>(std::move(cluster), std::move(revoked));
}

}  // namespace cenote::wire
