// Whose models are whose, and how much of the pool a tenant may have.
#include <algorithm>

#include "base/nearest.h"
#include "base/status.h"
#include "base/units.h"
#include "node/controller.h"

namespace cenote::node {

// The owner of a name that is there; of a new one, the tenant of who makes it.
std::string Controller::tenant_of(const Caller& caller, std::string_view name) const {
  const std::vector<std::string> names = catalogue_.names();
  if (std::binary_search(names.begin(), names.end(), name)) return catalogue_.owner_of(name);
  return caller.role == CallerRole::kDeployer ? caller.tenant : kDefaultTenant;
}

absl::Status Controller::check_owner(const Caller& caller, std::string_view name, const char* action) const {
  if (caller.role != CallerRole::kDeployer) return absl::OkStatus();  // What the others may is said by wire/permissions.h.
  if (!options_.tenants.empty() && caller.tenant != kDefaultTenant && !options_.tenants.contains(caller.tenant)) {
    std::vector<std::string> known;
    for (const auto& [tenant, limits] : options_.tenants) known.push_back(tenant);
    return absl::FailedPreconditionError(str_cat(describe_caller(caller), " may not ", action, " models: the settings have no [[tenant]] named ", caller.tenant,
                                                 did_you_mean(caller.tenant, known), "; add it and start the cluster anew, or take a certificate of another tenant"));
  }
  const std::string owner = tenant_of(caller, name);
  if (owner == caller.tenant) return absl::OkStatus();
  return absl::PermissionDeniedError(str_cat(describe_caller(caller), " may not ", action, " ", name, ": it belongs to tenant ", owner,
                                             "; a deployer of that tenant or an operator may, or take another name"));
}

// A number is no secret: that one knows it does not make the deploy one's own.
absl::Status Controller::check_deploy_owner(const Caller& caller, uint64_t number, const Deploy& deploy) const {
  if (caller.role != CallerRole::kDeployer || caller.tenant == deploy.tenant) return absl::OkStatus();
  return absl::PermissionDeniedError(str_cat(describe_caller(caller), " may not change deploy ", number, ": it is one of tenant ", deploy.tenant));
}

// Leased deploys count as if they were committed; `except`: but this one.
Catalogue::TenantUse Controller::use_of(const std::string& tenant, uint64_t except) const {
  Catalogue::TenantUse use = catalogue_.tenant_use(tenant);
  for (const auto& [number, deploy] : deploys_) {
    if (deploy.tenant != tenant || number == except) continue;
    use.names.insert(deploy.request.name);
    for (const BlockRef& block : deploy.request.blocks) use.blocks.emplace(block.id, block.size_bytes);
  }
  return use;
}

absl::Status Controller::check_limits(const std::string& tenant, const std::string& name, std::span<const BlockRef> blocks, uint64_t except) const {
  const auto found = options_.tenants.find(tenant);
  if (found == options_.tenants.end()) return absl::OkStatus();
  const ControllerOptions::TenantLimits& limits = found->second;
  const Catalogue::TenantUse use = use_of(tenant, except);
  const size_t names = use.names.size() + (use.names.contains(name) ? 0 : 1);
  if (limits.models_max != 0 && names > limits.models_max) {
    return absl::ResourceExhaustedError(str_cat("deploy of ", name, ": tenant ", tenant, " has ", use.names.size(), " models, deploys under way included, and may have ",
                                                limits.models_max, "; remove one with `cenote remove`, or raise models_max of its [[tenant]] in the settings"));
  }
  uint64_t used = 0, more = 0;
  for (const auto& [id, size_bytes] : use.blocks) used += size_bytes;
  for (const BlockRef& block : blocks) more += use.blocks.contains(block.id) ? 0 : block.size_bytes;
  if (limits.pool_bytes_max == 0 || used + more <= limits.pool_bytes_max) return absl::OkStatus();
  return absl::ResourceExhaustedError(str_cat("deploy of ", name, ": tenant ", tenant, " uses ", format_bytes(used), " of the pool, deploys under way included, this needs ",
                                              format_bytes(more), " more, and it may have ", format_bytes(limits.pool_bytes_max),
                                              "; remove models with `cenote remove`, or raise pool_bytes_max of its [[tenant]] in the settings"));
}

// After the events that make a name: whose it is.
void Controller::add_owner(const std::string& tenant, const std::string& name, Events& events) const {
  if (!events.empty() && catalogue_.owner_of(name) != tenant) events.emplace_back(NameOwned{name, tenant});
}

const std::vector<TenantStatus>& Controller::tenant_statuses() {
  std::set<std::string> names;
  for (const auto& [tenant, limits] : options_.tenants) names.insert(tenant);
  for (const auto& [name, tenant] : catalogue_.owners()) names.insert(tenant);
  if (!names.empty()) names.insert(kDefaultTenant);
  uint64_t open = 0;
  for (const auto& [number, deploy] : deploys_) open = open * 31 + number;
  if (const std::pair at(catalogue_.applied(), open); at == tenants_at_) return tenants_;
  tenants_at_ = {catalogue_.applied(), open};
  tenants_.clear();
  for (const std::string& name : names) {
    const Catalogue::TenantUse use = use_of(name, 0);
    TenantStatus status{.name = name, .models = use.names.size()};
    for (const auto& [id, size_bytes] : use.blocks) status.used_bytes += size_bytes;
    if (const auto limits = options_.tenants.find(name); limits != options_.tenants.end()) {
      status.pool_bytes_max = limits->second.pool_bytes_max;
      status.models_max = limits->second.models_max;
    }
    tenants_.push_back(std::move(status));
  }
  return tenants_;
}

}  // namespace cenote::node
