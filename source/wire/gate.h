// wire/gate.h - what every call over TCP passes before its handler hears of it: the caller's certificate has not lapsed or been revoked,
// belongs to this cluster, and its role may call the method (wire/permissions.h). gRPC asks it for each call, streams once.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "message/caller.h"
#include "wire/revoked.h"

namespace cenote::wire {

// The rules without gRPC. `cluster`: of this daemon's own certificate; empty: any. `now_s`: Unix seconds.
absl::Status check_caller(const Caller& caller, const std::string& cluster, int64_t now_s, RevokedCertificates& revoked);

std::shared_ptr<grpc::AuthMetadataProcessor> make_gate(std::string cluster, std::shared_ptr<RevokedCertificates> revoked);

}  // namespace cenote::wire
