#include "fabric/libfabric/devices.h"

#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "fabric/libfabric/handles.h"
#include "fabric/libfabric/library.h"

namespace cenote::fabric {
namespace {

constexpr int kGidsMax = 256;

size_t preference(const std::string& name) {
  constexpr std::array<std::string_view, 3> kPreferred = {"efa", "verbs;ofi_rxm", "tcp;ofi_rxm"};
  return std::find(kPreferred.begin(), kPreferred.end(), name) - kPreferred.begin();
}

std::string gid_text(const ibv_gid& gid) {
  std::string text;
  for (int i = 0; i < 16; i += 2) absl::StrAppendFormat(&text, "%s%02x%02x", i == 0 ? "" : ":", gid.raw[i], gid.raw[i + 1]);
  return text;
}

std::string link_layer_text(uint8_t layer) {
  if (layer == IBV_LINK_LAYER_INFINIBAND) return "InfiniBand";
  if (layer == IBV_LINK_LAYER_ETHERNET) return "Ethernet";
  return "unspecified";
}

std::string state_text(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN: return "DOWN";
    case IBV_PORT_INIT: return "INIT";
    case IBV_PORT_ARMED: return "ARMED";
    case IBV_PORT_ACTIVE: return "ACTIVE";
    default: return "unknown";
  }
}

VerbsPort describe_port(ibv_context* context, int number, const ibv_port_attr& attributes) {
  VerbsPort port;
  port.number = number;
  port.state = state_text(attributes.state);
  port.link_layer = link_layer_text(attributes.link_layer);
  port.mtu_bytes = 128 << attributes.active_mtu;  // IBV_MTU_256 is 1.
  for (int i = 0; i < std::min(attributes.gid_tbl_len, kGidsMax); ++i) {
    ibv_gid gid{};
    if (ibv_query_gid(context, static_cast<uint8_t>(number), i, &gid) != 0) continue;
    if (gid.global.interface_id != 0 || gid.global.subnet_prefix != 0) port.gids.push_back(gid_text(gid));
  }
  return port;
}

absl::StatusOr<VerbsDevice> describe_device(ibv_device* device) {
  VerbsDevice described{.name = ibv_get_device_name(device)};
  const std::unique_ptr<ibv_context, int (*)(ibv_context*)> context(ibv_open_device(device), ibv_close_device);
  if (context == nullptr) return errno_status(errno, absl::StrCat("opening the RDMA device ", described.name));
  ibv_device_attr attributes{};
  if (const int error = ibv_query_device(context.get(), &attributes); error != 0) {
    return errno_status(error, absl::StrCat("querying the RDMA device ", described.name));
  }
  described.firmware = std::string(attributes.fw_ver, strnlen(attributes.fw_ver, sizeof attributes.fw_ver));
  for (int number = 1; number <= attributes.phys_port_cnt; ++number) {
    ibv_port_attr port{};
    if (const int error = ibv_query_port(context.get(), static_cast<uint8_t>(number), &port); error != 0) {
      return errno_status(error, absl::StrCat("querying port ", number, " of ", described.name));
    }
    described.ports.push_back(describe_port(context.get(), number, port));
  }
  return described;
}

}  // namespace

std::vector<ProviderInfo> list_providers() {
  if (!load_libfabric().ok()) return {};
  const Info hints(fi_allocinfo());
  CENOTE_CHECK(hints != nullptr);
  hints->ep_attr->type = FI_EP_RDM;
  hints->caps = FI_RMA | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
  hints->mode = ~0ull;
  hints->domain_attr->mode = ~0ull;
  hints->domain_attr->mr_mode = ~(FI_MR_BASIC | FI_MR_SCALABLE);
  fi_info* found = nullptr;
  if (fi_getinfo(FI_VERSION(1, 17), nullptr, nullptr, 0, hints.get(), &found) != 0) return {};
  const Info owned(found);
  std::vector<ProviderInfo> providers;
  for (const fi_info* info = found; info != nullptr; info = info->next) {
    const std::string name = info->fabric_attr->prov_name;
    auto provider = std::find_if(providers.begin(), providers.end(), [&](const ProviderInfo& p) { return p.name == name; });
    if (provider == providers.end()) provider = providers.insert(provider, ProviderInfo{.name = name});
    const std::string domain = info->domain_attr->name;
    if (std::find(provider->domains.begin(), provider->domains.end(), domain) == provider->domains.end()) {
      provider->domains.push_back(domain);
    }
  }
  std::stable_sort(providers.begin(), providers.end(),
                   [](const ProviderInfo& a, const ProviderInfo& b) { return preference(a.name) < preference(b.name); });
  return providers;
}

absl::StatusOr<std::vector<VerbsDevice>> list_verbs_devices() {
  int count = 0;
  errno = 0;
  const std::unique_ptr<ibv_device*, void (*)(ibv_device**)> list(ibv_get_device_list(&count), ibv_free_device_list);
  if (list == nullptr) {
    if (errno == ENOSYS || errno == 0) return std::vector<VerbsDevice>{};  // No RDMA in this kernel.
    return errno_status(errno, "listing RDMA devices");
  }
  std::vector<VerbsDevice> devices;
  for (int i = 0; i < count; ++i) {
    CENOTE_ASSIGN_OR_RETURN(VerbsDevice device, describe_device(list.get()[i]));
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace cenote::fabric
