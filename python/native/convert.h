// native/convert.h - structs of message/ as Python dicts and back. Digests are hex texts, incarnations integers, enums their names.
#pragma once

#include <pybind11/pybind11.h>

#include "message/control.h"
#include "message/infer.h"

namespace cenote::native {

pybind11::dict to_dict(const RevisionState& state);
pybind11::dict to_dict(const ExecutorReport& executor);
pybind11::dict to_dict(const MemoryServerInfo& server);
pybind11::dict to_dict(const RevisionRecord& record);
pybind11::dict to_dict(const MemberReport& member);
pybind11::dict to_dict(const TenantStatus& tenant);
pybind11::dict to_dict(const RepairStatus& repair);
pybind11::dict to_dict(const ExcludedServer& server);
pybind11::dict to_dict(const ClusterStatus& status);
pybind11::dict to_dict(const ModelInfo& model);
pybind11::dict to_dict(const DeployResult& result);
pybind11::dict to_dict(const DeployPlan& plan);
pybind11::dict to_dict(const Waterfall& waterfall);

pybind11::list to_list(const std::vector<BlockRef>& blocks);  // [(hex, size), ...]
// Raises cenote.Error for a text that is no digest.
std::vector<BlockRef> to_blocks(const pybind11::sequence& blocks);
Digest to_digest(const std::string& hex);
// From to_dict(MemberReport)["memory"] and the like.
MemoryServerInfo to_memory_server(const pybind11::dict& info);

}  // namespace cenote::native
