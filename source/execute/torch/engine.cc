#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "base/status.h"
#include "execute/torch/engine.h"
#include "execute/torch/failures.h"
#include "execute/torch/program.h"
#include "execute/torch/torch_model.h"

namespace cenote::execute {
namespace {

int cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

class TorchEngine final : public Engine {
 public:
  explicit TorchEngine(int threads) : threads_(threads) { at::set_num_threads(threads); }

  absl::StatusOr<std::unique_ptr<Model>> load(const Manifest& manifest, device::DeviceSpan weights) override {
    try {
      CENOTE_ASSIGN_OR_RETURN(std::unique_ptr<const Program> program, build_program(manifest, weights));
      const int beside_transfers = std::clamp(threads_, 1, std::max(1, cores() - 1));
      return std::make_unique<TorchModel>(manifest.signature, std::move(program), weights, threads_, beside_transfers);
    } catch (...) {
      return status_of(std::current_exception(), "loading the graph");
    }
  }

 private:
  const int threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> open_torch_engine(const EngineOptions& options) {
  constexpr int kThreadsMax = 1024;
  if (options.threads < 0 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(absl::StrCat("execute threads: ", options.threads, ", 0 to ", kThreadsMax, " are allowed"));
  }
  return std::make_unique<TorchEngine>(options.threads > 0 ? options.threads : std::max(1, cores() - 1));
}

}  // namespace cenote::execute
