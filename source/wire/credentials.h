// wire/credentials.h - who may talk to whom. Every TCP link is mutual TLS under the cluster's own certificate authority.
//
// <state>/certificates holds PEM files, made by `cenote up` (local cluster) or `cenote certificates issue`:
//   ca.crt                 the authority both sides verify against; two of them while one takes over from the other
//   node.crt, node.key     every daemon's, as server and as client; carries the DNS name kNodeName
//   client.crt, client.key people's tools and applications; must NOT carry kNodeName, so it cannot pose as a daemon
//   revoked.txt            serials that count no more (wire/revoked.h)
// Hosts' own names do not matter: a peer is a daemon because its certificate says kNodeName, which clients check instead of the
// host name (a certificate per host would have to be remade whenever an address changes). What a caller may do stands in its
// certificate too (wire/caller.h).
// The Unix socket between an agent and its executors uses local credentials: the kernel vouches for the directory's owner (0700).
//
// Rotation: an Identity that was loaded watches its files. Connections made kRotationDelay after they were replaced use the new
// ones; those that are open go on. A key is replaced before its certificate; a connection that falls between the two fails and is
// tried again.
//
// Errors of load_*(): kUnauthenticated naming the file, what is wrong (missing, unreadable, not PEM, not yet valid, expired when, key
// does not belong to certificate) and the remedy. Any thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_context.h"
#include "wire/revoked.h"

namespace cenote::wire {

inline constexpr char kNodeName[] = "node.cenote";
// The files are read once a second.
inline constexpr Duration kRotationDelay = Duration::from_ms(2'000);

class WatchedFiles;

// PEM texts, checked. Copies share what they watch.
struct Identity {
  std::string authority;
  std::string certificate;
  std::string key;
  std::string cluster;                            // That the certificate names; may be empty.
  std::shared_ptr<WatchedFiles> watched;          // Null: the texts above, for good.
  std::shared_ptr<RevokedCertificates> revoked;   // Null: none are.
};
// `directory`: .../certificates.
absl::StatusOr<Identity> load_node_identity(const std::string& directory);
absl::StatusOr<Identity> load_client_identity(const std::string& directory);

// Refuses clients without a certificate of the authority; every call passes the gate (wire/gate.h).
std::shared_ptr<grpc::ServerCredentials> server_credentials(const Identity& identity);
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const Identity& identity);
std::shared_ptr<grpc::ServerCredentials> unix_server_credentials();
std::shared_ptr<grpc::ChannelCredentials> unix_channel_credentials();

// Ok if the caller is a daemon (its certificate's role, or a local socket); kPermissionDenied says what only daemons may do.
absl::Status require_node(const grpc::ServerContextBase& context, const char* action);

}  // namespace cenote::wire
