// message/caller.h - who asks, as the certificate of the connection says: verified by the cluster's authority, never claimed by a message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cenote {

// On certificates by name; in tables by value: append only.
enum class CallerRole : uint8_t { kNode = 1, kOperator = 2, kDeployer = 3, kClient = 4 };
std::string_view caller_role_name(CallerRole role);  // "node", "operator", "deployer", "client"

// A model's name belongs to a tenant. Names that nobody claimed, and what operators make, belong to this one.
inline constexpr char kDefaultTenant[] = "default";
inline constexpr size_t kTenantBytesMax = 64;
inline constexpr size_t kSubjectBytesMax = 64;

struct Caller {
  CallerRole role = CallerRole::kNode;
  std::string subject;                   // The certificate's common name.
  std::string tenant = kDefaultTenant;   // Deployers and clients.
  std::string cluster;                   // Empty: the certificate names none (a daemon's, from before roles).
  std::string serial;                    // Lower-case hex; empty on a local socket.
  std::string peer;                      // As gRPC names it, "ipv4:10.0.0.7:51234"; empty where it is not known.
  int64_t expires_s = 0;                 // Unix seconds; 0: never (a local socket).
};

// "alice (deployer of tenant vision)": for messages to people.
std::string describe_caller(const Caller& caller);

}  // namespace cenote
