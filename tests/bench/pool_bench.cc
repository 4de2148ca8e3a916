// One read between two Transports of this process, by provider and size: the price of an operation, not of a wire (for the
// pool between processes: cenote-bench-pool). Workloads: loopback and tcp;ofi_rxm, 4 KiB, 256 KiB and 4 MiB, one in flight.
#include <benchmark/benchmark.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "fabric/transport.h"

namespace cenote::fabric {
namespace {

void read_one(benchmark::State& state, const std::string& provider) {
  const auto size = static_cast<uint64_t>(state.range(0));
  std::vector<std::byte> remote(size, std::byte{1});
  std::vector<std::byte> local(size);
  auto target = open_transport({.provider = provider});
  auto reader = open_transport({.provider = provider});
  CENOTE_CHECK(target.ok() && reader.ok());
  {
    const auto source = (*target)->register_memory(remote, Access::kRemoteRead);
    const auto sink = (*reader)->register_memory(local, Access::kLocal);
    const auto endpoint = (*reader)->connect((*target)->address());
    CENOTE_CHECK(source.ok() && sink.ok() && endpoint.ok());
    const RegionKey key = (*source)->key();
    std::atomic<bool> stopping{false};
    std::thread server([&] {
      while (!stopping) (*target)->wait(Duration::from_seconds(10));
    });
    for (auto _ : state) {
      const Instant deadline = monotonic_now() + Duration::from_seconds(30);
      CENOTE_CHECK((*endpoint)->read({key, 0, size}, {sink->get(), 0, size}, 1, deadline).ok());
      Completion completion{.code = absl::StatusCode::kUnknown};
      while ((*reader)->poll({&completion, 1}) == 0) (*reader)->wait(Duration::from_seconds(30));
      CENOTE_CHECK(completion.code == absl::StatusCode::kOk);
    }
    stopping = true;
    (*target)->wake();
    server.join();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}

BENCHMARK_CAPTURE(read_one, loopback, std::string("loopback"))->Arg(4 << 10)->Arg(256 << 10)->Arg(4 << 20)->UseRealTime();
BENCHMARK_CAPTURE(read_one, tcp, std::string("tcp;ofi_rxm"))->Arg(4 << 10)->Arg(256 << 10)->Arg(4 << 20)->UseRealTime();

}  // namespace
}  // namespace cenote::fabric

BENCHMARK_MAIN();
