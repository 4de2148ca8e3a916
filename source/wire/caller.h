// wire/caller.h - who calls, read from the certificate that TLS verified.
//
// What a certificate may do stands in it as a URI among its alternative names, so that nobody but the authority can say it:
//   cenote://CLUSTER/role/node                      daemons (beside the DNS name node.cenote, which their peers check)
//   cenote://CLUSTER/role/operator                  everything
//   cenote://CLUSTER/role/deployer/tenant/TENANT    models of that tenant
//   cenote://CLUSTER/role/client[/tenant/TENANT]    requests
// Exactly one such URI. A certificate without one is a daemon's if it carries node.cenote, and nobody's otherwise: certificates of
// people made before there were roles are refused, with the way to another (`cenote up` renews a local cluster's by itself).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/server_context.h"
#include "message/caller.h"

namespace cenote::wire {

// What the URI says: cluster, role and tenant. kInvalidArgument: not of the forms above, or a name that no setting would take. Pure.
absl::StatusOr<Caller> parse_role_uri(std::string_view uri);

// From a PEM certificate, verified by whoever read it. kUnauthenticated says what it lacks and the remedy. Pure.
absl::StatusOr<Caller> read_caller(std::string_view pem);

// Of a call. A local socket's is a node: the kernel vouches for the directory's owner. Costs a look-up by the certificate's text (below
// 1 us) after the first of a certificate. Any thread.
absl::StatusOr<Caller> caller_of(const grpc::AuthContext& context);
absl::StatusOr<Caller> caller_of(const grpc::ServerContextBase& context);  // With its peer.

}  // namespace cenote::wire
