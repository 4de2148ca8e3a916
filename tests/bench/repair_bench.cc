// repair_bench: what the controller's steps take while a lost memory server's blocks get new replicas, with a large catalogue. The state
// machine as it is (node/controller.h) on a made-up clock, with a store that takes all and servers that copy what they are told; each step timed.
//
// Phases: join   each server says all it holds
//         settle steps until every block was judged once
//         index  from the loss of memory-0 until each of its blocks is known to lack a replica
//         copy   until they have it
// step_ms: of the single steps; beyond 120 ms (limits.silence_max) peers suspect the controller. Telling one agent anew costs the whole catalogue,
// in one step: --agents 0 leaves that out. Steps that ask for the cluster's state, which tell how far it is, are among those of index and copy.
//
// Example: build/bench/bin/repair_bench --blocks 1048576 --servers 16 --agents 1
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/units.h"
#include "node/controller.h"
#include "tail_race.h"

namespace cenote::node {
namespace {

using Json = nlohmann::ordered_json;
using bench::quantile;

constexpr uint32_t kBlocksOfRevision = 1024;
constexpr StreamId kAgentStream = 1000;

struct Options {
  uint32_t blocks = 1 << 20;
  uint32_t servers = 16;
  uint32_t agents = 1;
};

double rounded(double value) { return std::round(value * 1e3) / 1e3; }

uint64_t resident_mib() {
  std::ifstream file("/proc/self/statm");
  uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / kMiB;
}

// Spread as hashes are.
Digest id_of(uint32_t n) {
  Digest id;
  const uint32_t mixed = n * 2654435761u;
  std::memcpy(id.bytes.data(), &mixed, sizeof mixed);
  std::memcpy(id.bytes.data() + 4, &n, sizeof n);
  id.bytes[31] = 1;
  return id;
}
BlockRef block(uint32_t n) { return {.id = id_of(n), .size_bytes = kBlockBytesMax}; }
std::string name_of(uint32_t server) { return str_cat("memory-", server); }

class World {
 public:
  explicit World(const Options& options) : options_(options), held_(options.servers) {
    Catalogue catalogue = make_catalogue();
    catalogue_mib_ = resident_mib();
    ControllerOptions controller{.cluster = "bench", .replicas = 2, .repair_after = Duration::from_seconds(1), .events_stored = catalogue.applied()};
    controller_.emplace(std::move(controller), std::move(catalogue), now_);
  }

  Json run() {
    Json phases = Json::array();
    for (uint32_t i = 0; i < options_.servers; ++i) join_server(i);
    for (uint32_t i = 0; i < options_.agents; ++i) join_agent(i);
    phases.push_back(phase("join"));
    // A round of repair every 20 ms looks at 4,096 blocks, and each is held twice.
    wait(Duration::from_seconds(3) + Controller::kRepairRound * (2 * options_.blocks / Controller::kJudgedPerRound));
    phases.push_back(phase("settle"));

    const uint64_t lost = controller_->catalogue().held().at(name_of(0)).size();
    alive_.erase(name_of(0));
    feed({StreamEnded{1}});
    while (status().short_blocks < lost) wait(Controller::kRepairRound);
    phases.push_back(phase("index"));
    copying_ = true;
    while (status().short_blocks > 0) wait(Controller::kRepairRound);
    phases.push_back(phase("copy"));
    return {{"blocks", options_.blocks}, {"servers", options_.servers}, {"agents", options_.agents}, {"lost_blocks", lost},
            {"catalogue_mib", catalogue_mib_}, {"phases", phases}};
  }

 private:
  // Every block on two servers.
  Catalogue make_catalogue() {
    Catalogue catalogue;
    const auto apply = [&](const CatalogueEvent& event) { CENOTE_CHECK(catalogue.apply(event).ok()); };
    apply(LineageSet{1, ""});
    for (uint32_t first = 0; first < options_.blocks; first += kBlocksOfRevision) {
      const std::string name = str_cat("model-", first / kBlocksOfRevision);
      RevisionRecord record{.digest = id_of(0x80000000u + first), .name = name, .manifest_bytes = kBlockBytesMax,
                            .manifest_blocks = {block(first)}, .created_us = 1, .label = {}};
      for (uint32_t n = first + 1; n < std::min(options_.blocks, first + kBlocksOfRevision); ++n) record.blocks.push_back(block(n));
      record.weight_bytes = record.blocks.size() * kBlockBytesMax;
      apply(RevisionSealed{record});
      apply(TagMoved{.name = name, .tag = "latest", .revision = record.digest});
    }
    for (uint32_t n = 0; n < options_.blocks; ++n) {
      const uint32_t server = n % options_.servers;
      held_[server].push_back(block(n));
      held_[(server + 1 + n / options_.servers % (options_.servers - 1)) % options_.servers].push_back(block(n));
    }
    for (uint32_t i = 0; i < options_.servers; ++i) apply(ReplicasAdded{.server = name_of(i), .blocks = held_[i]});
    return catalogue;
  }

  void join_server(uint32_t i) {
    MemberReport report{.name = name_of(i), .role = Role::kMemory, .incarnation = 1, .address = name_of(i)};
    report.memory = {.name = name_of(i), .control_address = name_of(i), .fabric_provider = {}, .fabric_address = {}, .incarnation = 1,
                     .capacity_bytes = 2 * options_.blocks * kBlockBytesMax};
    report.lineage = 1;
    alive_[report.name] = {i + 1, report};
    names_[i + 1] = report.name;
    report.inventory = true;
    report.held = held_[i];
    feed({Reported{i + 1, report}});
  }
  void join_agent(uint32_t i) {
    MemberReport report{.name = str_cat("agent-", i), .role = Role::kAgent, .incarnation = 1, .address = "agent"};
    report.executors = {{.name = report.name + "/host:0", .device = "host:0", .address = "executor", .incarnation = 9, .credits = 4}};
    alive_[report.name] = {kAgentStream + i, report};
    feed({Reported{kAgentStream + i, report}});
  }

  // Everybody beats; who was told to copy has done it.
  void wait(Duration duration) {
    for (const Instant end = now_ + duration; now_ < end;) {
      now_ = now_ + Controller::kRepairRound;
      for (auto& [name, member] : alive_) {
        auto& [stream, report] = member;
        if (now_ < beat_at_[name] && (!copying_ || copied_[name].empty())) continue;
        beat_at_[name] = now_ + Duration::from_ms(500);
        MemberReport said = report;
        if (copying_) said.held = std::exchange(copied_[name], {});
        feed({Reported{stream, said}});
      }
      feed({});
    }
  }

  void feed(std::vector<ControllerEvent> events) {
    bool more = true;
    while (more) {
      std::vector<ControllerAction> actions;
      const Instant begin = monotonic_now();
      controller_->step(now_, events, actions);
      steps_.push_back((monotonic_now() - begin).ms());
      events.clear();
      for (const ControllerAction& action : actions) {
        if (std::holds_alternative<AppendEvents>(action)) events.push_back(Appended{});
        if (const auto* sent = std::get_if<SendDirective>(&action)) obey(*sent);
        if (const auto* reply = std::get_if<ClusterReply>(&action)) repair_ = reply->result->repair;
      }
      more = !events.empty();
    }
  }
  void obey(const SendDirective& sent) {
    told_assignments_ += std::holds_alternative<Assignment>(sent.directive) ? 1 : 0;
    const auto* directive = std::get_if<MemoryDirective>(&sent.directive);
    if (directive == nullptr) return;
    std::vector<BlockRef>& copied = copied_[names_.at(sent.stream)];
    copied.clear();
    for (const CopyOrder& order : directive->copy) copied.push_back(order.block);
  }
  RepairStatus status() {
    feed({ClusterAsked{}});
    return repair_;
  }

  Json phase(const char* name) {
    const std::vector<double> steps = std::exchange(steps_, {});
    double sum = 0;
    for (const double step : steps) sum += step;
    const auto stalls = std::count_if(steps.begin(), steps.end(), [](double step) { return step > 50; });
    const Duration virtual_time = now_ - std::exchange(phase_from_, now_);
    return {{"phase", name}, {"virtual_s", rounded(virtual_time.seconds())}, {"steps", steps.size()}, {"sum_ms", rounded(sum)},
            {"step_ms", {{"p50", rounded(quantile(steps, 0.5))}, {"p99", rounded(quantile(steps, 0.99))}, {"max", rounded(quantile(steps, 1))}}},
            {"over_50_ms", stalls}, {"assignments", std::exchange(told_assignments_, 0)}, {"resident_mib", resident_mib()}};
  }

  struct Alive {
    StreamId stream = 0;
    MemberReport report;
  };
  const Options options_;
  std::vector<std::vector<BlockRef>> held_;
  uint64_t catalogue_mib_ = 0;
  Instant now_{Duration::from_seconds(1'000).ns};
  Instant phase_from_ = now_;
  std::optional<Controller> controller_;
  std::map<std::string, Alive> alive_;
  std::map<StreamId, std::string> names_;
  std::map<std::string, Instant> beat_at_;
  std::map<std::string, std::vector<BlockRef>> copied_;
  std::vector<double> steps_;
  uint64_t told_assignments_ = 0;
  bool copying_ = false;
  RepairStatus repair_;
};

}  // namespace
}  // namespace cenote::node

int main(int argc, char** argv) {
  cenote::node::Options options;
  CLI::App app("Times the controller's steps while a lost server's blocks are copied. Example: repair_bench --blocks 1048576 --servers 16 --agents 1");
  app.add_option("--blocks", options.blocks, "Of 4 MiB, each on two servers")->check(CLI::Range(1024, 1 << 22))->capture_default_str();
  app.add_option("--servers", options.servers, "Memory servers")->check(CLI::Range(3, 256))->capture_default_str();
  app.add_option("--agents", options.agents, "Agents, each told the whole catalogue when it changes")->check(CLI::Range(0, 256))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::printf("%s\n", cenote::node::World(options).run().dump(2).c_str());
  return 0;
}
