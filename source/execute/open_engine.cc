#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/status.h"
#include "base/text.h"
#include "execute/plugin.h"

namespace cenote::execute {
namespace {

constexpr const char* kPluginFile = "cenote_torch.so";

std::string beside_program() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "lib" / kPluginFile).string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> open_engine(const EngineOptions& options, const std::string& path) {
  const std::string file = path.empty() ? beside_program() : path;
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    return absl::NotFoundError(str_cat("engine ", file, ": no such file; build the target cenote_torch, or install bin/ and lib/ together"));
  }
  ::setenv("OMP_WAIT_POLICY", "passive", 0);
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);  // Never closed: libtorch's threads and registrations stay.
  if (library == nullptr) {
    return absl::FailedPreconditionError(str_cat("engine ", file, " does not load: ", ::dlerror(), "; run third_party/install.sh"));
  }
  const auto* plugin = static_cast<const EnginePlugin*>(::dlsym(library, kEnginePluginSymbol));
  if (plugin == nullptr || std::strcmp(plugin->version, kEnginePluginVersion) != 0) {
    return absl::FailedPreconditionError(str_cat("engine ", file, " has version ", plugin == nullptr ? "none" : plugin->version,
                                                 ", this program needs ", kEnginePluginVersion, "; build both together"));
  }
  return plugin->open(options);
}

}  // namespace cenote::execute
