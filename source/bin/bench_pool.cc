// cenote-bench-pool: what `cenote bench pool` runs. Prints one JSON object: the pool's reads beside a plain fi_read loop, memcpy
// and a TCP stream, between two processes of this host.
#include <csignal>
#include <cstdio>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/units.h"
#include "bin/bench_pool_measure.h"
#include "bin/bench_pool_target.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  cenote::BenchPoolOptions options;
  bool target = false;
  CLI::App app("Measures reads between two processes of this host. Example: cenote-bench-pool --provider tcp --pairs 15");
  app.add_option("--provider", options.transport.provider, "libfabric provider; empty: the first of efa, verbs, tcp");
  app.add_option("--bind", options.transport.bind_address, "Address of the interface")->capture_default_str();
  app.add_option("--pairs", options.pairs, "Passes of each kind, interleaved")->check(CLI::Range(15, 1000))->capture_default_str();
  app.add_option("--depth", options.depth, "Reads in flight")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--arena-bytes", options.arena_bytes, "Bytes of one pass; a multiple of 16 MiB")->capture_default_str();
  app.add_flag("--target", target, "Be the serving process, as the measuring one starts it");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (target) return cenote::run_bench_target(options.transport, options.arena_bytes);

  const absl::StatusOr<cenote::BenchPoolResult> result = cenote::measure_pool(options);
  if (!result.ok()) {
    std::fprintf(stderr, "cenote-bench-pool: %s\n", std::string(result.status().message()).c_str());
    return cenote::exit_code(result.status().code());
  }
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const cenote::BenchPoint& point : result->points) {
    points.push_back({{"bytes", point.bytes},
                      {"gb_per_s", point.gb_per_s},
                      {"verified_gb_per_s", point.verified_gb_per_s},
                      {"bare_gb_per_s", point.bare_gb_per_s},
                      {"ratio", point.ratio},
                      {"cpu_s_per_gb", point.cpu_s_per_gb}});
  }
  const nlohmann::ordered_json report = {{"provider", result->provider},
                                         {"points", points},
                                         {"memcpy_gb_per_s", result->memcpy_gb_per_s},
                                         {"tcp_gb_per_s", result->tcp_gb_per_s},
                                         {"peers_gb_per_s", nlohmann::ordered_json::object()}};
  std::printf("%s\n", report.dump(2).c_str());
  return 0;
}
