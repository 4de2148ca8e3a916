// cenote-bench-router: the load behind `cenote bench router`, and the bare stream echo beside it. For each line of JSON on standard input
//   {"way": "router" | "executor" | "bare", "outstanding": 64, "seconds": 2.0, "relay": "host:port" (bare only: a relay, or who answers)}
// it runs one closed loop and prints a line of JSON; {"way": "idle", "sessions": 1000} keeps so many callers connected. The first line says how large the messages are. With --serve it answers opaque messages
// itself, or relays them, until its standard input ends; its first line says where.
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "bin/bench_router_load.h"
#include "wire/bare_echo.h"

namespace cenote {
namespace {

constexpr Duration kIdlePatience = Duration::from_seconds(30);  // For each 64 callers.

void print_line(const nlohmann::ordered_json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

double own_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

absl::Status serve(const std::string& state_directory, wire::BareServer::Options options) {
  CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_node_identity(state_directory + "/certificates"));
  CENOTE_ASSIGN_OR_RETURN(const auto server, wire::BareServer::start(identity, std::move(options)));
  print_line({{"address", server->address()}});
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadResult> run_one(BenchLoad& load, const nlohmann::json& order) {
  const std::string way = order.value("way", "");
  const auto outstanding = order.value("outstanding", uint32_t{1});
  const Duration duration = Duration::from_seconds(order.value("seconds", 1.0));
  if (way == "router") return load.through_router(outstanding, duration);
  if (way == "executor") return load.to_executor(outstanding, duration);
  if (way == "bare") return load.through_bare(order.value("relay", ""), outstanding, duration);
  return absl::InvalidArgumentError(str_cat("way '", way, "': write router, executor or bare"));
}

absl::Status drive(BenchRouterOptions options) {
  CENOTE_ASSIGN_OR_RETURN(const auto load, BenchLoad::open(std::move(options)));
  print_line({{"request_bytes", load->request_bytes()}, {"reply_bytes", load->reply_bytes()}});
  std::string line;
  while (std::getline(std::cin, line)) {
    const nlohmann::json order = nlohmann::json::parse(line, nullptr, false);
    if (!order.is_object()) return absl::InvalidArgumentError(str_cat("standard input: '", line, "' is not a JSON object"));
    if (order.value("way", "") == "idle") {
      std::string why;
      const uint32_t welcomed = load->hold_idle(order.value("sessions", uint32_t{0}), kIdlePatience, &why);
      print_line({{"welcomed", welcomed}, {"refusal", why}});
      continue;
    }
    const double cpu = own_cpu_seconds();
    CENOTE_ASSIGN_OR_RETURN(const LoadResult result, run_one(*load, order));
    print_line({{"requests", result.latencies_us.size()}, {"failed", result.failed}, {"first_error", result.first_error},
                {"seconds", result.took.seconds()}, {"cpu_s", own_cpu_seconds() - cpu}, {"p50_us", result.percentile_us(0.5)},
                {"p99_us", result.percentile_us(0.99)}});
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace cenote

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  cenote::BenchRouterOptions options;
  cenote::wire::BareServer::Options bare;
  bool serves = false;
  CLI::App app("Loads a router, an executor or a bare relay in closed loops.\n"
               "Example: cenote-bench-router --state DIR --serve --reply-bytes 300");
  app.add_option("--state", options.state_directory, "The cluster's state directory (certificates)")->required();
  app.add_flag("--serve", serves, "Answer opaque messages instead of sending requests");
  app.add_option("--reply-bytes", bare.reply_bytes, "With --serve: of each answer")->check(CLI::Range(0, 64 << 20));
  app.add_option("--forward", bare.forward_to, "With --serve: relay to another one at HOST:PORT");
  app.add_option("--router", options.router, "HOST:PORT");
  app.add_option("--executor", options.executor, "HOST:PORT");
  app.add_option("--model", options.model, "As requests name it");
  app.add_option("--revision", options.revision, "Its digest, for the executor");
  app.add_option("--input", options.input, "Name of its one input, f32[1, elements]");
  app.add_option("--elements", options.elements, "Of that input")->check(CLI::Range(1, 16384))->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const absl::Status status = serves ? cenote::serve(options.state_directory, std::move(bare)) : cenote::drive(std::move(options));
  if (status.ok()) return 0;
  std::fprintf(stderr, "cenote-bench-router: %s\n", std::string(status.message()).c_str());
  return cenote::exit_code(status.code());
}
