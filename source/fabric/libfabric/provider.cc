#include "fabric/libfabric/provider.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "fabric/libfabric/devices.h"
#include "fabric/libfabric/errors.h"
#include "fabric/libfabric/library.h"

namespace cenote::fabric {
namespace {

constexpr uint32_t kApiVersion = FI_VERSION(1, 17);
// FI_MR_ENDPOINT is not offered: a region would then belong to one endpoint, and we open one per peer.
constexpr int kMrMode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;

Info make_hints(const std::string& provider) {
  Info hints(fi_allocinfo());
  CENOTE_CHECK(hints != nullptr);
  hints->fabric_attr->prov_name = strdup(provider.c_str());
  hints->ep_attr->type = FI_EP_RDM;
  hints->caps = FI_MSG | FI_RMA | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->domain_attr->mr_mode = kMrMode;
  hints->domain_attr->threading = FI_THREAD_DOMAIN;  // A Transport is loop-affine.
  hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
  hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
  return hints;
}

absl::StatusOr<Info> get_info(const std::string& provider, const char* node, const char* service) {
  const Info hints = make_hints(provider);
  fi_info* found = nullptr;
  const uint64_t flags = node != nullptr ? FI_SOURCE : 0;
  if (const int error = fi_getinfo(kApiVersion, node, service, flags, hints.get(), &found); error != 0) {
    return fabric_error(error, absl::StrCat("fi_getinfo(", provider, ")"));
  }
  Info info(found);
  // The hint names a family ("tcp" also finds "tcp;ofi_rxm"); take the first that is the one asked for.
  for (fi_info* i = info.get(); i != nullptr; i = i->next) {
    if (provider == i->fabric_attr->prov_name) return Info(fi_dupinfo(i));
  }
  return absl::UnimplementedError(absl::StrCat("fi_getinfo(", provider, ") found only ", found->fabric_attr->prov_name));
}

std::string full_name(const std::string& provider) {
  return provider == "tcp" || provider == "verbs" ? provider + ";ofi_rxm" : provider;
}

std::string present_names() {
  std::vector<std::string> names;
  for (const ProviderInfo& provider : list_providers()) names.push_back(provider.name);
  return names.empty() ? "none" : absl::StrJoin(names, ", ");
}

absl::StatusOr<ProviderChoice> open_provider(const std::string& name, const TransportOptions& options) {
  const bool ip = uses_ip_address(name);
  const char* node = ip ? options.bind_address.c_str() : nullptr;
  const std::string port = std::to_string(options.port);
  ProviderChoice choice;
  choice.name = name;
  CENOTE_ASSIGN_OR_RETURN(choice.connecting, get_info(name, node, nullptr));
  absl::StatusOr<Info> serving = get_info(name, node, ip && options.port != 0 ? port.c_str() : nullptr);
  // verbs binds already here, and says of a taken port only that there is nothing.
  if (!serving.ok()) return ip && options.port != 0 ? port_taken(options.bind_address, options.port) : serving.status();
  choice.serving = *std::move(serving);
  return choice;
}

}  // namespace

bool uses_ip_address(const std::string& provider) { return provider != "shm" && provider != "efa"; }

absl::StatusOr<ProviderChoice> choose_provider(const TransportOptions& options) {
  CENOTE_RETURN_IF_ERROR(load_libfabric());
  std::vector<std::string> wanted = {"efa", "verbs;ofi_rxm", "tcp;ofi_rxm"};
  if (!options.provider.empty()) wanted = {full_name(options.provider)};
  for (const std::string& name : wanted) {
    absl::StatusOr<ProviderChoice> choice = open_provider(name, options);
    if (choice.ok() || absl::IsAlreadyExists(choice.status())) return choice;
  }
  // The last one wanted failed. If it works without our address, the address is at fault, not the provider.
  const std::string& last = wanted.back();
  if (uses_ip_address(last) && get_info(last, nullptr, nullptr).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("fabric: ", last, " cannot bind to ", options.bind_address, " port ", options.port,
                                                   ": not an address of this host"));
  }
  return absl::UnimplementedError(
      absl::StrCat("fabric: no provider ", absl::StrJoin(wanted, " or "), " on this host; present: ", present_names()));
}

}  // namespace cenote::fabric
