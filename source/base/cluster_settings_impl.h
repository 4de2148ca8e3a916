// base/cluster_settings_impl.h - between the files of cluster_settings. Not for other rooms.
#pragma once

#include <vector>

#include "base/cluster_settings.h"

namespace cenote {

// What no single key can say: names and ports that collide, limits that do not fit each other, keys that a
// device ignores.
void check_relations(const ClusterSettings& cluster, std::vector<SettingProblem>& problems);

}  // namespace cenote
