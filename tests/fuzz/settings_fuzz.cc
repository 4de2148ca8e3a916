// Goal: whatever a settings file says, it is either refused with a message or gives settings whose JSON is
// complete. Input: TOML, then after a 0 byte lines of flags ("path=value") and of environment
// ("CENOTE_X=value").
#include <cstdint>
#include <sstream>
#include <string>

#include "base/cluster_settings.h"
#include "base/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  const std::string all(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(all.find('\0'), all.size());
  SettingsInput input{.file_name = "fuzz.toml",
                      .text = all.substr(0, end),
                      .overrides = {},
                      .environment = {{"HOME", "/home/x"}}};
  std::istringstream lines(end < all.size() ? all.substr(end + 1) : "");
  for (std::string line; std::getline(lines, line) && input.overrides.size() < 64;) {
    const size_t equals = line.find('=');
    if (line.starts_with("CENOTE_") && equals != std::string::npos)
      input.environment[line.substr(0, equals)] = line.substr(equals + 1);
    else
      input.overrides.push_back(line);
  }
  std::vector<SettingProblem> problems;
  const ClusterSettings cluster = resolve_cluster_settings(input, problems);
  for (const SettingProblem& problem : problems)
    CENOTE_CHECK(!problem.text.empty() && !problem.where.empty());
  if (!problems.empty()) return 0;
  CENOTE_CHECK(!cluster.memory.empty() && !cluster.routers.empty() && !cluster.agents.empty());
  CENOTE_CHECK(cluster.replicas >= 1 && cluster.replicas <= cluster.memory.size());
  CENOTE_CHECK(settings_json(cluster).size() > 100);
  return 0;
}
