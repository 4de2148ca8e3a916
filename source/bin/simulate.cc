// cenote-simulate: runs made-up clusters on virtual time under made-up faults, one per seed (source/simulate/README.md). A seed that fails
// is named with the command that repeats it; exit 1. An abort of the product's own checks counts as a failure too.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "base/clock.h"
#include "simulate/run.h"

namespace {

using cenote::simulate::RunResult;

char repeat_line[256];

void say_how_to_repeat(uint64_t seed) {
  std::snprintf(repeat_line, sizeof repeat_line, "to repeat: cenote-simulate --seed %llu --trace    (commit %s)\n", static_cast<unsigned long long>(seed), CENOTE_COMMIT);
}

void on_abort(int) {
  (void)!::write(STDERR_FILENO, repeat_line, std::strlen(repeat_line));
  std::signal(SIGABRT, SIG_DFL);
  std::raise(SIGABRT);
}

// "7" or "1..1000".
bool parse_range(const std::string& text, uint64_t& first, uint64_t& last) {
  unsigned long long a = 0, b = 0;
  char rest = 0;
  const int fields = std::sscanf(text.c_str(), "%llu..%llu%c", &a, &b, &rest);
  first = a;
  last = fields == 2 ? b : a;
  return (fields == 1 && text.find_first_not_of("0123456789") == std::string::npos) || (fields == 2 && b >= a);
}

// Lines "SEED what it was"; '#' begins a comment.
bool read_seeds(const std::string& path, std::vector<uint64_t>& seeds) {
  std::ifstream file(path);
  if (!file) return false;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') seeds.push_back(std::stoull(line));
  }
  return true;
}

struct Totals {
  uint64_t seeds = 0, failures = 0, actions = 0, requests = 0, succeeded = 0, faults = 0, events = 0;
};

void run(uint64_t seed, bool tracing, uint64_t twice_every, Totals& totals) {
  say_how_to_repeat(seed);
  const RunResult result = cenote::simulate::run_seed(seed, tracing);
  std::string failure = result.failure;
  if (failure.empty() && twice_every != 0 && seed % twice_every == 0 && cenote::simulate::run_seed(seed, false).hash != result.hash) {
    failure = "the same seed gave another run";
  }
  ++totals.seeds;
  totals.actions += result.actions;
  totals.requests += result.requests;
  totals.succeeded += result.succeeded;
  totals.faults += result.faults;
  totals.events += result.events;
  if (tracing) std::printf("hash %016llx, %llu actions\n", static_cast<unsigned long long>(result.hash), static_cast<unsigned long long>(result.actions));
  if (failure.empty()) return;
  ++totals.failures;
  std::fflush(stdout);
  std::fprintf(stderr, "seed %llu FAILED %s\n%s", static_cast<unsigned long long>(seed), failure.c_str(), repeat_line);
}

}  // namespace

int main(int argc, char** argv) {
  std::string range, file;
  bool tracing = false;
  uint64_t twice_every = 16, failures_max = 10;
  CLI::App app("Simulates clusters under faults on virtual time. Example: cenote-simulate --seeds 1..1000");
  auto* one = app.add_option("--seed,--seeds", range, "One seed, or FIRST..LAST");
  app.add_option("--file", file, "Also the seeds of this file: a line each, \"SEED what it was\"");
  app.add_flag("--trace", tracing, "Print what happens, a line each")->needs(one);
  app.add_option("--twice-every", twice_every, "Run seeds divisible by this twice and compare; 0: none")->capture_default_str();
  app.add_option("--failures", failures_max, "Stop after so many")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  uint64_t first = 1, last = 0;
  std::vector<uint64_t> kept;
  if (range.empty() && file.empty()) {
    std::fprintf(stderr, "cenote-simulate: which seeds? --seeds 1..1000\n");
    return 2;
  }
  if (!range.empty() && !parse_range(range, first, last)) {
    std::fprintf(stderr, "cenote-simulate: --seeds '%s': write one number, or FIRST..LAST\n", range.c_str());
    return 2;
  }
  if (!file.empty() && !read_seeds(file, kept)) {
    std::fprintf(stderr, "cenote-simulate: %s cannot be read\n", file.c_str());
    return 2;
  }
  std::signal(SIGABRT, on_abort);
  Totals totals;
  const cenote::Instant begin = cenote::monotonic_now();
  for (const uint64_t seed : kept) {
    if (totals.failures < failures_max) run(seed, tracing, twice_every, totals);
  }
  for (uint64_t seed = first; seed <= last && totals.failures < failures_max; ++seed) run(seed, tracing, twice_every, totals);
  const double seconds = (cenote::monotonic_now() - begin).seconds();
  std::printf("%llu seeds, %llu failed, in %.1f s: %llu actions, %llu faults, %llu catalogue events, %llu requests (%llu answered Ok)\n",
              static_cast<unsigned long long>(totals.seeds), static_cast<unsigned long long>(totals.failures), seconds,
              static_cast<unsigned long long>(totals.actions), static_cast<unsigned long long>(totals.faults),
              static_cast<unsigned long long>(totals.events), static_cast<unsigned long long>(totals.requests),
              static_cast<unsigned long long>(totals.succeeded));
  return totals.failures == 0 ? 0 : 1;
}
