// Whose the names are, and what of the pool is a tenant's.
#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "catalog/catalogue.h"
#include "message/caller.h"

namespace cenote {

bool Catalogue::has_name(std::string_view name) const {
  return std::any_of(revisions_.begin(), revisions_.end(), [&](const auto& entry) { return entry.second.names.contains(std::string(name)); });
}

absl::Status Catalogue::apply_one(const NameOwned& event) {
  if (!has_name(event.name)) return absl::NotFoundError(str_cat("there is no model named ", event.name));
  if (event.tenant == kDefaultTenant) {
    owners_.erase(event.name);
  } else {
    owners_[event.name] = event.tenant;
  }
  return absl::OkStatus();
}

const std::string& Catalogue::owner_of(std::string_view name) const {
  static const std::string nobody = kDefaultTenant;
  const auto found = owners_.find(name);
  return found == owners_.end() ? nobody : found->second;
}

Catalogue::TenantUse Catalogue::tenant_use(std::string_view tenant) const {
  TenantUse use;
  for (const auto& [digest, entry] : revisions_) {
    bool needed = false;
    for (const auto& [name, created_us] : entry.names) {
      if (owner_of(name) != tenant) continue;
      use.names.insert(name);
      needed = true;
      if (const auto label = entry.labels.find(name); label != entry.labels.end()) use.blocks.emplace(label->second.id, label->second.size_bytes);
    }
    if (!needed) continue;
    for (const BlockRef& block : distinct_blocks(entry.record)) use.blocks.emplace(block.id, block.size_bytes);
  }
  return use;
}

}  // namespace cenote
