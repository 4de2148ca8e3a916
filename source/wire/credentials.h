// wire/credentials.h - who may talk to whom. Every TCP link is mutual TLS under the cluster's own certificate authority.
//
// <state>/certificates holds PEM files, made by `cenote up` (local cluster) or `cenote init`:
//   ca.crt                 the authority both sides verify against
//   node.crt, node.key     every daemon's, as server and as client; carries the DNS name kNodeName
//   client.crt, client.key people's tools and applications; must NOT carry kNodeName, so it cannot pose as a daemon
// Hosts' own names do not matter: a peer is a daemon because its certificate says kNodeName, which clients check instead of the
// host name (a certificate per host would have to be remade whenever an address changes).
// The Unix socket between an agent and its executors uses local credentials: the kernel vouches for the directory's owner (0700).
//
// Errors of load_*(): kUnauthenticated naming the file, what is wrong (missing, unreadable, not PEM, not yet valid, expired when, key
// does not belong to certificate) and the remedy. Any thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_context.h"

namespace cenote::wire {

inline constexpr char kNodeName[] = "node.cenote";

// PEM texts, checked.
struct Identity {
  std::string authority;
  std::string certificate;
  std::string key;
};
// `directory`: .../certificates.
absl::StatusOr<Identity> load_node_identity(const std::string& directory);
absl::StatusOr<Identity> load_client_identity(const std::string& directory);

// Refuses clients without a certificate of the authority.
std::shared_ptr<grpc::ServerCredentials> server_credentials(const Identity& identity);
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const Identity& identity);
std::shared_ptr<grpc::ServerCredentials> unix_server_credentials();
std::shared_ptr<grpc::ChannelCredentials> unix_channel_credentials();

// Ok if the caller is a daemon (kNodeName, or a local socket); kPermissionDenied says what only daemons may do.
absl::Status require_node(const grpc::ServerContextBase& context, const char* action);

}  // namespace cenote::wire
