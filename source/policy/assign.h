// policy/assign.h - what each agent's devices should have, and what routers may route to. Functions of the view: no clock, no state.
//
// Static assignment: every device serves every revision unless its settings name models or the record names devices, and has all tagged
// ones ready, the newest first, except those people evicted since.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/catalogue.h"
#include "message/member.h"

namespace cenote::policy {

using DeviceModels = std::map<std::string, std::vector<std::string>>;  // "agent-0/host:0" -> names it may serve; absent or empty: all.

struct AssignView {
  const Catalogue* catalogue = nullptr;
  std::vector<MemoryServerInfo> servers;                        // Live, their holdings known.
  std::vector<ExecutorReport> executors;                        // Of live agents.
  DeviceModels models;
  std::set<Digest> not_prefetched;
};

// Whether `filter` (RevisionRecord::device_filter: empty, or a list of "host", "cuda:0", ... with commas) admits the device.
bool device_admitted(std::string_view filter, std::string_view device);

// Whether the revision's filter and the executor's settings let it serve the revision.
bool may_serve(const DeviceModels& models, const std::string& executor, const RevisionEntry& entry);

// `devices`: the agent's, "host:0". version and evict are left to the caller. Load figures (used_bytes) are zero, so that equal
// assignments stay equal while load changes; so are those of executors in make_cluster_view().
Assignment make_assignment(const AssignView& view, const std::string& agent, std::span<const std::string> devices);
ClusterView make_cluster_view(const AssignView& view);

// Equal but for version and evict.
bool same_assignment(const Assignment& a, const Assignment& b);
bool same_view(const ClusterView& a, const ClusterView& b);

// An executor as routers need it: figures that change with every request are zero.
ExecutorReport without_load(ExecutorReport executor);
bool same_executor(const ExecutorReport& a, const ExecutorReport& b);

}  // namespace cenote::policy
