// cenote-bench-stream: the bare cost of bringing some bytes from another process, for bounds (design section 10). For each line on standard
// input it reads them all once with a plain fi_read loop, sums them with bare XXH3-64, and prints a line of JSON:
//   {"read_s": wall seconds, "read_cpu_s": CPU seconds of both processes, "verify_s": seconds of XXH3-64 over 256 KiB chunks}
#include <csignal>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "base/status.h"
#include "base/units.h"
#include "bin/bench_pool_target.h"
#include "fabric/libfabric/bare_read.h"

namespace cenote {
namespace {

struct StreamOptions {
  fabric::TransportOptions transport;
  uint64_t bytes = 0;
  uint64_t read_bytes = kMiB;
  size_t depth = 4;
};

double own_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double verify_seconds(std::span<const std::byte> bytes, uint64_t& sum) {
  const Instant start = monotonic_now();
  for (uint64_t at = 0; at < bytes.size(); at += kChunkBytes) {
    sum ^= xxh3_64(bytes.subspan(at, std::min<uint64_t>(kChunkBytes, bytes.size() - at)));
  }
  return (monotonic_now() - start).seconds();
}

absl::Status run(StreamOptions options) {
  {
    CENOTE_ASSIGN_OR_RETURN(const auto probe, fabric::open_transport(options.transport));
    options.transport.provider = probe->provider();
  }
  CENOTE_ASSIGN_OR_RETURN(const auto target, BenchTarget::start(options.transport, options.bytes));
  std::vector<std::byte> local(options.bytes);
  CENOTE_ASSIGN_OR_RETURN(const auto reader, fabric::BareReader::open(options.transport, target->address(), local));
  std::string line;
  uint64_t sum = 0;
  while (std::getline(std::cin, line)) {
    const double cpu = own_cpu_seconds() + target->cpu_time().seconds();
    const Instant start = monotonic_now();
    CENOTE_RETURN_IF_ERROR(reader->read_all(target->key(), options.read_bytes, options.depth));
    const double read_s = (monotonic_now() - start).seconds();
    const double read_cpu_s = own_cpu_seconds() + target->cpu_time().seconds() - cpu;
    const nlohmann::ordered_json result = {
        {"read_s", read_s}, {"read_cpu_s", read_cpu_s}, {"verify_s", verify_seconds(local, sum)}, {"sum", sum}};
    std::printf("%s\n", result.dump().c_str());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace cenote

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  cenote::StreamOptions options;
  bool target = false;
  CLI::App app("Reads bytes of another process, once per line of input.\nExample: echo | cenote-bench-stream --bytes 240000000");
  app.add_option("--provider", options.transport.provider, "libfabric provider; empty: the first of efa, verbs, tcp");
  app.add_option("--bind", options.transport.bind_address, "Address of the interface")->capture_default_str();
  app.add_option("--bytes,--arena-bytes", options.bytes, "How many")->required()->check(CLI::Range(uint64_t{1}, uint64_t{1} << 36));
  app.add_option("--depth", options.depth, "Reads in flight, of 1 MiB")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_flag("--target", target, "Be the serving process, as the measuring one starts it");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (target) return cenote::run_bench_target(options.transport, options.bytes);
  const absl::Status status = cenote::run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "cenote-bench-stream: %s\n", std::string(status.message()).c_str());
  return cenote::exit_code(status.code());
}
