// Goal: `cenote doctor` can list what this host has, and a host without RDMA devices is not an error.
#include "fabric/libfabric/devices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace cenote::fabric {
namespace {

TEST(ListProviders, has_tcp_everywhere_and_names_each_provider_once) {
  const std::vector<ProviderInfo> providers = list_providers();
  std::multiset<std::string> names;
  for (const ProviderInfo& provider : providers) {
    names.insert(provider.name);
    EXPECT_FALSE(provider.domains.empty()) << provider.name;
  }
  EXPECT_EQ(names.count("tcp;ofi_rxm"), 1u);
  for (const std::string& name : names) EXPECT_EQ(names.count(name), 1u) << name;
}

TEST(ListProviders, begins_with_those_that_are_preferred) {
  const std::vector<ProviderInfo> providers = list_providers();
  const auto tcp = std::find_if(providers.begin(), providers.end(), [](const auto& p) { return p.name == "tcp;ofi_rxm"; });
  for (auto p = providers.begin(); p != tcp; ++p) EXPECT_TRUE(p->name == "efa" || p->name == "verbs;ofi_rxm") << p->name;
}

TEST(ListVerbsDevices, agrees_with_the_kernel) {
  const auto devices = list_verbs_devices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  std::set<std::string> kernel;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/infiniband", none)) kernel.insert(entry.path().filename());
  std::set<std::string> ours;
  for (const VerbsDevice& device : *devices) {
    ours.insert(device.name);
    for (const VerbsPort& port : device.ports) {
      EXPECT_GE(port.number, 1);
      EXPECT_GE(port.mtu_bytes, 256);
    }
  }
  EXPECT_EQ(ours, kernel);
}

}  // namespace
}  // namespace cenote::fabric
