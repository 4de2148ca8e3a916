// Goal: assignment is a function of the view: filters hold, replicas are live ones, agents do not all ask the same server first.
#include "policy/assign.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace cenote::policy {
namespace {

Digest id_of(uint8_t n) {
  Digest id;
  id.bytes[0] = n;
  id.bytes[31] = 1;
  return id;
}

struct Pool {
  Pool() {
    for (const char* server : {"memory-0", "memory-1"}) {
      ReplicasAdded added{.server = server};
      for (uint8_t n = 0; n < 40; ++n) added.blocks.push_back({id_of(n), 4096});
      EXPECT_TRUE(catalogue.apply(added).ok());
      view.servers.push_back({.name = server, .control_address = "a:1", .incarnation = 1, .used_bytes = 99});
    }
    add(1, "bert", 1, "");
    add(2, "gpt2", 2, "cuda, emulated:1");
    for (const char* device : {"host:0", "emulated:1"}) view.executors.push_back({.name = str_cat("agent-0/", device), .device = device, .incarnation = 3, .served = 5});
    view.catalogue = &catalogue;
  }
  void add(uint8_t number, const std::string& name, int64_t created_us, const std::string& filter) {
    RevisionRecord record{.digest = id_of(100 + number), .name = name, .manifest_bytes = 4096, .manifest_blocks = {{id_of(30 + number), 4096}}, .created_us = created_us, .device_filter = filter};
    for (uint8_t n = 0; n < 20; ++n) record.blocks.push_back({id_of(n), 4096});
    record.weight_bytes = 20 * 4096;
    EXPECT_TRUE(catalogue.apply(RevisionSealed{record}).ok());
    EXPECT_TRUE(catalogue.apply(TagMoved{.name = name, .tag = "latest", .revision = record.digest}).ok());
  }
  Catalogue catalogue;
  AssignView view;
  std::vector<std::string> devices{"host:0", "emulated:1"};
};

TEST(AssignTest, device_filters_name_devices_or_kinds) {
  EXPECT_TRUE(device_admitted("", "host:0"));
  EXPECT_TRUE(device_admitted("host", "host:3"));
  EXPECT_TRUE(device_admitted("cuda, host:0", "host:0"));
  EXPECT_FALSE(device_admitted("cuda,host:0", "host:1"));
  EXPECT_FALSE(device_admitted("hos", "host:1"));
}

TEST(AssignTest, every_device_prefetches_what_it_may_serve_the_newest_first) {
  Pool pool;
  const Assignment assignment = make_assignment(pool.view, "agent-0", pool.devices);
  EXPECT_EQ(assignment.prefetch.at("emulated:1"), (std::vector<Digest>{id_of(102), id_of(101)}));
  EXPECT_EQ(assignment.prefetch.at("host:0"), (std::vector<Digest>{id_of(101)}));
  EXPECT_EQ(assignment.revisions.size(), 2u);
}

TEST(AssignTest, settings_and_evictions_restrict_the_prefetch) {
  Pool pool;
  pool.view.models["agent-0/emulated:1"] = {"bert"};
  pool.view.not_prefetched = {id_of(101)};
  const Assignment assignment = make_assignment(pool.view, "agent-0", pool.devices);
  EXPECT_TRUE(assignment.prefetch.at("emulated:1").empty());
  EXPECT_EQ(assignment.revisions.size(), 1u) << "gpt2 may be served by no device now";
}

TEST(AssignTest, replicas_of_servers_that_are_not_live_are_left_out) {
  Pool pool;
  pool.view.servers.erase(pool.view.servers.begin());
  EXPECT_EQ(make_assignment(pool.view, "agent-0", pool.devices).replicas.at(id_of(0)), std::vector<std::string>{"memory-1"});
}

TEST(AssignTest, the_first_replica_varies_over_blocks_so_that_links_share_the_load) {
  Pool pool;
  int first = 0;
  for (const auto& [block, servers] : make_assignment(pool.view, "agent-0", pool.devices).replicas) first += servers.at(0) == "memory-0" ? 1 : 0;
  EXPECT_GT(first, 5);
  EXPECT_LT(first, 17);
}

TEST(AssignTest, load_does_not_change_what_is_told) {
  Pool pool;
  const Assignment before = make_assignment(pool.view, "agent-0", pool.devices);
  const ClusterView view = make_cluster_view(pool.view);
  pool.view.servers[0].used_bytes = 7;
  pool.view.executors[0].served = 1000;
  EXPECT_TRUE(same_assignment(before, make_assignment(pool.view, "agent-0", pool.devices)));
  EXPECT_TRUE(same_view(view, make_cluster_view(pool.view)));
  pool.view.executors[0].incarnation = 4;
  EXPECT_FALSE(same_view(view, make_cluster_view(pool.view)));
  pool.view.servers[0].incarnation = 2;
  EXPECT_FALSE(same_assignment(before, make_assignment(pool.view, "agent-0", pool.devices)));
}

TEST(AssignTest, routers_hear_which_executors_may_serve_a_filtered_revision) {
  Pool pool;
  const ClusterView view = make_cluster_view(pool.view);
  EXPECT_FALSE(view.allowed.contains(id_of(101)));
  EXPECT_EQ(view.allowed.at(id_of(102)), std::vector<std::string>{"agent-0/emulated:1"});
}

}  // namespace
}  // namespace cenote::policy
