#include "wire/permissions.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace cenote::wire {
namespace {

using enum CallerRole;
constexpr std::string_view kPackage = "/cenote.v1.";

constexpr std::array kNodes = {kNode};
constexpr std::array kOperators = {kOperator};
constexpr std::array kDeployers = {kOperator, kDeployer};
constexpr std::array kWriters = {kNode, kOperator, kDeployer};
constexpr std::array kEverybody = {kNode, kOperator, kDeployer, kClient};

// Everybody may ask for grants, since a caller reads a model's signature and files from the pool before its first request. That is no
// more than the fabric gives anyway: its keys are not secrets, and who must not read weights must not be on its network.
constexpr Permission kPermissions[] = {
    {"Inference/Session", "send requests", kEverybody},
    {"Memory/GrantRead", "read from the pool", kEverybody},
    {"Memory/OpenSlab", "write to the pool", kWriters},
    {"Memory/SealSlab", "write to the pool", kWriters},
    {"Memory/AbandonSlab", "write to the pool", kWriters},
    {"Controller/Join", "join the cluster", kNodes},
    {"Controller/BeginDeploy", "deploy models", kDeployers},
    {"Controller/RenewDeploy", "deploy models", kDeployers},
    {"Controller/CommitDeploy", "deploy models", kDeployers},
    {"Controller/AbortDeploy", "deploy models", kDeployers},
    {"Controller/Publish", "publish models", kDeployers},
    {"Controller/Rollback", "roll models back", kDeployers},
    {"Controller/Remove", "remove models", kDeployers},
    {"Controller/Evict", "evict models", kOperators},
    {"Controller/Models", "list models", kEverybody},
    {"Controller/Cluster", "see the cluster's status", kEverybody},
    {"Controller/ReadEvents", "back the catalogue up", kOperators},
    {"Controller/FindUnclaimed", "search the pool for what no revision needs", kOperators},
    {"Controller/Adopt", "adopt revisions found in the pool", kOperators},
    {"Controller/HoldDrops", "decide what memory servers keep", kOperators},
    {"Controller/Drain", "drain members", kOperators},
    {"Agent/Attach", "attach to an agent", kNodes},
};

std::string roles_text(std::span<const CallerRole> roles) {
  std::string text;
  for (const CallerRole role : roles) str_append(&text, text.empty() ? "" : " or ", caller_role_name(role));
  return text;
}

std::string remedy(std::span<const CallerRole> roles) {
  if (std::find(roles.begin(), roles.end(), kDeployer) != roles.end()) {
    return "; the cluster's operator makes such a certificate: `cenote certificates issue NAME --role deployer --tenant TENANT`";
  }
  if (std::find(roles.begin(), roles.end(), kOperator) != roles.end()) {
    return "; the cluster's operator makes such a certificate: `cenote certificates issue NAME --role operator`";
  }
  return "; only the cluster's daemons have such a certificate";
}

}  // namespace

std::span<const Permission> permissions() { return kPermissions; }

const Permission* find_permission(std::string_view path) {
  if (path.substr(0, kPackage.size()) != kPackage) return nullptr;
  path.remove_prefix(kPackage.size());
  const auto found = std::find_if(std::begin(kPermissions), std::end(kPermissions), [&](const Permission& one) { return one.method == path; });
  return found == std::end(kPermissions) ? nullptr : found;
}

absl::Status permit(std::string_view path, const Caller& caller) {
  const Permission* permission = find_permission(path);
  if (permission == nullptr) return absl::UnimplementedError(str_cat("no method ", path.substr(0, 200), ": this Cenote is of another version"));
  if (std::find(permission->roles.begin(), permission->roles.end(), caller.role) != permission->roles.end()) return absl::OkStatus();
  return absl::PermissionDeniedError(str_cat(describe_caller(caller), " may not ", permission->action, ": that takes the role ",
                                             roles_text(permission->roles), remedy(permission->roles)));
}

}  // namespace cenote::wire
