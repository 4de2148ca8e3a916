// tail_bench: what racing reads (the same chunk from a second replica when the first is late) could win at most.
//
// Workloads: fetches of --mib by the agent's fetcher, 1 MiB reads, four in flight, from two replicas of each block; a server is a thread.
//   none          the machine's own tail
//   busy          the same beside two processes that take all the processor they get
//   tail C% D ms  C of 100 reads of memory-0 come late by up to D ms, out of order         (emulated)
//   slow xF       each read of memory-0 takes F times what a read takes                    (emulated)
// Each for two ways: strictly by the job's order, and "passing" slow servers (load/server_table.h). Each way of each workload has a fetcher of its own, so
// that it knows what such a tail taught it; a visit is four fetches, a round a visit to each, so that the first of a visit knows nothing.
//
// For each the best that a race could give, one that costs nothing: no read takes longer than the hedge (p95 of reads: of its own where nothing is
// emulated, else of those without a tail) plus a typical read (their p50). "raced": emulated, the delays cut there. "replayed": the reads that were
// measured, cut there, laid into four slots anew; for what is not emulated there is only that. twice: share of the reads that would be made twice.
//
// Example: build/bench/bin/tail_bench --provider "tcp;ofi_rxm" --mib 64 --mib 256 --rounds 15
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <functional>
#include <optional>
#include <thread>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "tail_fetch.h"
#include "tail_race.h"

extern char** environ;

namespace cenote::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string provider = "tcp;ofi_rxm";
  size_t servers = 2;
  std::vector<uint64_t> mib = {64};
  int rounds = 15;
};

struct Workload {
  std::string name;
  double chance = 0;     // Of a delay, on memory-0.
  Duration delay_min, delay_max;
  bool busy = false;
  bool emulated() const { return chance > 0; }
};

// Two processes that take all the processor they get, while it lives.
class BusyProcesses {
 public:
  BusyProcesses() {
    std::string loop = str_cat("while kill -0 ", getpid(), "; do :; done");
    char shell[] = "sh", flag[] = "-c";
    char* arguments[] = {shell, flag, loop.data(), nullptr};
    for (pid_t& pid : pids_) CENOTE_CHECK(posix_spawn(&pid, "/bin/sh", nullptr, nullptr, arguments, environ) == 0);
  }
  ~BusyProcesses() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  BusyProcesses(const BusyProcesses&) = delete;

 private:
  std::array<pid_t, 2> pids_{};
};

// What was measured of one workload, one way.
struct Times {
  std::vector<double> fetch_ms;
  std::vector<std::vector<Duration>> reads;  // Of each fetch.

  void add(const Fetched& fetched) {
    fetch_ms.push_back(fetched.took.ms());
    std::vector<Duration>& took = reads.emplace_back();
    for (const ReadTime& read : fetched.reads) took.push_back(read.took());
  }
  std::vector<Duration> all_reads() const {
    std::vector<Duration> all;
    for (const auto& one : reads) all.insert(all.end(), one.begin(), one.end());
    return all;
  }
  std::vector<double> replayed_ms(size_t in_flight, Duration longest) const {
    std::vector<double> replayed;
    for (size_t i = 0; i < reads.size(); ++i) {
      replayed.push_back(fetch_ms[i] * replay(reads[i], in_flight, longest).seconds() / replay(reads[i], in_flight, Duration{INT64_MAX}).seconds());
    }
    return replayed;
  }
};

double rounded(double value) { return std::round(value * 1e3) / 1e3; }

Json spread(const std::vector<double>& values) {
  return {{"p50", rounded(quantile(values, 0.50))}, {"p95", rounded(quantile(values, 0.95))}, {"p99", rounded(quantile(values, 0.99))}};
}

std::vector<double> in_ms(const std::vector<Duration>& durations) {
  std::vector<double> values;
  for (const Duration duration : durations) values.push_back(duration.ms());
  return values;
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), pool_(options.provider, options.servers, *std::max_element(options.mib.begin(), options.mib.end()) * kMiB) {}

  Json measure(uint64_t mib) {
    calibrate(mib * kMiB);
    const std::vector<Workload> workloads = make_workloads();
    std::vector<Measured> measured(workloads.size());
    for (Measured& of : measured) {
      for (const Way way : {kInOrder, kRaced, kPassing}) {
        of.fetcher[way] = std::make_unique<TailFetcher>(pool_, way == kPassing ? load::FetcherOptions{} : strict());
        of.fetcher[way]->fetch(mib * kMiB, {});  // Connections, grants.
      }
    }
    for (int round = 0; round < options_.rounds; ++round) {
      for (size_t i = 0; i < workloads.size(); ++i) visit(workloads[i], mib * kMiB, measured[i]);
    }
    Json points = Json::array();
    for (size_t i = 0; i < workloads.size(); ++i) points.push_back(describe(workloads[i], measured[i]));
    return {{"mib", mib}, {"typical_read_ms", rounded(typical_.ms())}, {"workloads", points}};
  }
  Json report() {
    Json sizes = Json::array();
    for (const uint64_t mib : options_.mib) sizes.push_back(measure(mib));
    return {{"provider", options_.provider}, {"servers", options_.servers}, {"rounds", options_.rounds}, {"reads_in_flight", kInFlight},
            {"cores", std::thread::hardware_concurrency()}, {"sizes", sizes}};
  }

 private:
  static constexpr size_t kInFlight = load::FetcherOptions{}.reads_in_flight;
  static constexpr int kVisit = 4;
  enum Way { kInOrder, kRaced, kPassing };
  struct Measured {
    std::array<std::unique_ptr<TailFetcher>, 3> fetcher;
    std::array<Times, 3> times;
  };

  static load::FetcherOptions strict() {
    load::FetcherOptions options;
    options.servers.slow_factor = 0;
    return options;
  }

  // What a read takes without a tail.
  void calibrate(uint64_t bytes) {
    TailFetcher fetcher(pool_, strict());
    std::vector<Duration> reads;
    for (int i = 0; i < 22; ++i) {
      const Fetched fetched = fetcher.fetch(bytes, {});
      if (i < 2) continue;  // Connections, grants, page tables.
      for (const ReadTime& read : fetched.reads) reads.push_back(read.took());
    }
    typical_ = quantile(reads, 0.50);
    hedge_after_ = quantile(reads, 0.95);
  }

  std::vector<Workload> make_workloads() const {
    std::vector<Workload> workloads = {{.name = "none"}, {.name = "busy", .busy = true}};
    for (const int percent : {1, 5}) {
      for (const int late_ms : {20, 50}) {
        workloads.push_back({.name = str_cat("tail ", percent, "% ", late_ms, " ms"), .chance = percent / 100.0, .delay_min = {},
                             .delay_max = Duration::from_ms(late_ms)});
      }
    }
    for (const int factor : {2, 4, 8, 16}) {
      const Duration late = typical_ * (factor - 1);
      workloads.push_back({.name = str_cat("slow x", factor), .chance = 1, .delay_min = late, .delay_max = late});
    }
    return workloads;
  }

  void visit(const Workload& workload, uint64_t bytes, Measured& measured) {
    std::optional<BusyProcesses> busy;
    if (workload.busy) busy.emplace();
    fabric::FaultPlan plan{.seed = seed_ + 1, .delay_chance = workload.chance, .only = pool_.servers[0]->address(),
                           .delay_min = workload.delay_min, .delay_max = workload.delay_max};
    for (const Way way : {kInOrder, kRaced, kPassing}) {
      plan.delay_cap = way == kRaced ? hedge_after_ : Duration{INT64_MAX};
      for (int i = 0; i < kVisit; ++i, ++plan.seed) measured.times[way].add(measured.fetcher[way]->fetch(bytes, plan));
      plan.seed -= kVisit;  // Delays from the same seed for each way.
    }
    seed_ += kVisit;
  }

  Json describe(const Workload& workload, const Measured& measured) const {
    const Times& in_order = measured.times[kInOrder];
    const std::vector<Duration> reads = in_order.all_reads();
    const Duration hedge_after = workload.emulated() ? hedge_after_ : quantile(reads, 0.95);
    const Duration typical = workload.emulated() ? typical_ : quantile(reads, 0.50);
    const auto late = std::count_if(reads.begin(), reads.end(), [&](Duration read) { return read > hedge_after; });
    Json point = {{"workload", workload.name}, {"emulated", workload.emulated()}, {"read_ms", spread(in_ms(reads))}, {"fetch_ms", spread(in_order.fetch_ms)},
                  {"hedge_after_ms", rounded(hedge_after.ms())}, {"replayed_ms", spread(in_order.replayed_ms(kInFlight, hedge_after + typical))}};
    if (workload.emulated()) point["raced_ms"] = spread(measured.times[kRaced].fetch_ms);
    point["twice"] = rounded(static_cast<double>(late) / static_cast<double>(reads.size()));
    point["passing_ms"] = spread(measured.times[kPassing].fetch_ms);
    uint64_t suspected = 0;
    for (const auto& fetcher : measured.fetcher) suspected += fetcher->stats().suspected;
    point["suspected"] = suspected;
    return point;
  }

  const Options options_;
  TailPool pool_;
  Duration typical_, hedge_after_;
  uint64_t seed_ = 0;
};

}  // namespace
}  // namespace cenote::bench

int main(int argc, char** argv) {
  cenote::bench::Options options;
  CLI::App app("Measures what racing reads could win at most. Example: tail_bench --provider 'tcp;ofi_rxm' --mib 64 --mib 256 --rounds 15");
  app.add_option("--provider", options.provider, "libfabric provider, or loopback")->capture_default_str();
  app.add_option("--servers", options.servers, "Memory servers; each block is on two")->check(CLI::Range(2, 16))->capture_default_str();
  app.add_option("--mib", options.mib, "Size of a fetch; a multiple of 4; may be repeated")->check(CLI::Range(4, 4096))->capture_default_str();
  app.add_option("--rounds", options.rounds, "Visits of four fetches, interleaved")->check(CLI::Range(1, 10000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::printf("%s\n", cenote::bench::Bench(options).report().dump(2).c_str());
  return 0;
}
