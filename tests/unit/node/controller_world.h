// A controller, its store and its memory servers on a made-up clock, for the tests of node/controller.h: events go in by name, what
// members were told and callers were answered is kept.
#pragma once

#include "node/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <memory>

#include "base/text.h"
#include "base/units.h"

namespace cenote::node {

using absl::StatusCode;
using testing::HasSubstr;

inline Digest id_of(uint32_t n) {
  Digest id;
  std::memcpy(id.bytes.data(), &n, sizeof n);
  id.bytes[31] = 1;
  return id;
}
inline Duration ms(int64_t n) { return Duration::from_ms(n); }
inline BlockRef block(uint32_t n) { return {.id = id_of(n), .size_bytes = 4096}; }

// A revision of weight blocks `weights` and manifest block 1000 + number.
inline RevisionRecord record_of(uint32_t number, const std::string& name, std::vector<uint32_t> weights) {
  RevisionRecord record{.digest = id_of(5000 + number), .name = name, .manifest_bytes = 4096, .manifest_blocks = {block(1000 + number)}, .created_us = 1};
  for (const uint32_t weight : weights) record.blocks.push_back(block(weight));
  record.weight_bytes = 4096 * weights.size();
  return record;
}

class World {
 public:
  explicit World(ControllerOptions options = defaults()) { restart(std::move(options), Catalogue()); }

  // Another controller, of what a store holds; members must join again.
  void restart(ControllerOptions options, Catalogue catalogue) {
    options.events_stored = stored.size();
    machine = std::make_unique<Controller>(std::move(options), std::move(catalogue), now);
  }
  Controller& controller() { return *machine; }
  const Controller& controller() const { return *machine; }

  static ControllerOptions defaults() {
    return {.cluster = "test", .member_timeout = ms(2000), .deploy_lease = ms(60'000), .replicas = 2, .expected = {}, .first_version = 100};
  }

  void feed(ControllerEvent event) {
    std::vector<ControllerEvent> events{std::move(event)};
    while (true) {
      std::vector<ControllerAction> actions;
      controller().step(now, events, actions);
      events.clear();
      for (const ControllerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
      if (events.empty()) return;
    }
  }
  void step() {
    std::vector<ControllerAction> actions;
    controller().step(now, {}, actions);
    std::vector<ControllerEvent> events;
    for (const ControllerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
    for (ControllerEvent& event : events) feed(std::move(event));
  }
  // Time passes; whoever is alive beats its heart.
  void wait(Duration duration) {
    for (const Instant end = now + duration; now < end;) {
      now = std::min(end, now + ms(250));
      for (const auto& [name, report] : alive) feed(Reported{stream_of.at(name), report});
      step();
    }
  }

  StreamId join(const std::string& name, Role role, Incarnation incarnation = 1, std::vector<uint32_t> held = {}) {
    MemberReport report{.name = name, .role = role, .incarnation = incarnation, .address = name + ":1"};
    if (role == Role::kMemory) report.memory = {.name = name, .control_address = name + ":1", .incarnation = incarnation, .capacity_bytes = 64 * kMiB};
    if (role == Role::kAgent) report.executors = {{.name = name + "/host:0", .device = "host:0", .address = name + ":2", .incarnation = 9, .credits = 4}};
    if (role == Role::kMemory) report.lineage = lineage;
    const StreamId stream = next_stream++;
    alive[name] = report;
    stream_of[name] = stream;
    report.inventory = role == Role::kMemory;
    for (const uint32_t n : held) report.held.push_back(block(n));
    feed(Reported{stream, report});
    return stream;
  }
  void die(const std::string& name) {
    alive.erase(name);
    feed(StreamEnded{stream_of.at(name)});
  }
  // The server says that it holds, or dropped, these.
  void said(const std::string& server, std::vector<uint32_t> held, std::vector<uint32_t> dropped = {}) {
    MemberReport report = alive.at(server);
    for (const uint32_t n : held) report.held.push_back(block(n));
    for (const uint32_t n : dropped) report.dropped.push_back(id_of(n));
    feed(Reported{stream_of.at(server), report});
  }

  absl::StatusOr<DeployPlan> begin(const std::string& name, std::vector<uint32_t> blocks, bool update = false) {
    DeployRequest request{.name = name, .update = update, .client = "test"};
    for (const uint32_t n : blocks) request.blocks.push_back(block(n));
    const CallId call = next_call++;
    feed(BeginAsked{call, request, now + ms(10'000)});
    return plans.contains(call) ? plans.at(call) : absl::StatusOr<DeployPlan>(absl::InternalError("not answered yet"));
  }
  CallId commit(uint64_t deploy, const RevisionRecord& record) {
    const CallId call = next_call++;
    feed(CommitAsked{call, deploy, record, now + ms(10'000)});
    return call;
  }
  // The whole deploy, its blocks written to every server that was named.
  absl::StatusOr<DeployResult> deploy(const RevisionRecord& record, bool update = false) {
    std::vector<uint32_t> numbers;
    for (const BlockRef& b : distinct_blocks(record)) {
      uint32_t n;
      std::memcpy(&n, b.id.bytes.data(), sizeof n);
      numbers.push_back(n);
    }
    const auto plan = begin(record.name, numbers, update);
    if (!plan.ok()) return plan.status();
    for (const BlockTargets& send : plan->send) {
      for (const std::string& server : send.servers) said(server, {numbers[send.block]});
    }
    return commits.at(commit(plan->deploy, record));
  }
  template <typename Event>
  CallId call(Event event) {
    event.call = next_call++;
    const CallId call = event.call;
    feed(std::move(event));
    return call;
  }
  template <typename T>
  const T* last_told(const std::string& member) const {
    const auto found = told.find(stream_of.at(member));
    if (found == told.end()) return nullptr;
    for (auto directive = found->second.rbegin(); directive != found->second.rend(); ++directive) {
      if (const T* wanted = std::get_if<T>(&*directive)) return wanted;
    }
    return nullptr;
  }

  std::unique_ptr<Controller> machine;
  Instant now;
  uint64_t lineage = ControllerOptions().fresh_lineage;  // That memory servers remember when they join.
  StreamId next_stream = 1;
  std::vector<std::string> warnings;
  CallId next_call = 1;
  std::map<std::string, MemberReport> alive;
  std::map<std::string, StreamId> stream_of;
  std::map<StreamId, std::vector<Directive>> told;
  std::map<StreamId, absl::Status> refusals;
  std::vector<CatalogueEvent> stored;
  absl::Status store_status;
  bool hold_appends = false;
  std::vector<AppendEvents> held_appends;
  std::map<CallId, absl::StatusOr<DeployPlan>> plans;
  std::map<CallId, absl::StatusOr<DeployResult>> commits;
  std::map<CallId, absl::StatusOr<TagMove>> moves;
  std::map<CallId, absl::StatusOr<Removal>> removals;
  std::map<CallId, absl::StatusOr<std::vector<ModelInfo>>> models;
  std::map<CallId, absl::StatusOr<ClusterStatus>> clusters;
  std::map<CallId, absl::StatusOr<Unclaimed>> unclaimed;
  std::map<CallId, absl::Status> dones;

 private:
  using Feed = std::vector<ControllerEvent>;
  void perform(const AppendEvents& a, Feed& events) {
    if (hold_appends) return held_appends.push_back(a);
    if (store_status.ok()) stored.insert(stored.end(), a.events.begin(), a.events.end());
    events.push_back(Appended{store_status});
  }
  void perform(const SendDirective& a, Feed&) { told[a.stream].push_back(a.directive); }
  void perform(const RefuseStream& a, Feed&) { refusals.emplace(a.stream, a.status); }
  void perform(const Say& a, Feed&) { if (a.warning) warnings.push_back(a.text); }
  void perform(const PlanReply& a, Feed&) { EXPECT_TRUE(plans.emplace(a.call, a.result).second); }
  void perform(const CommitReply& a, Feed&) { EXPECT_TRUE(commits.emplace(a.call, a.result).second); }
  void perform(const TagMoveReply& a, Feed&) { EXPECT_TRUE(moves.emplace(a.call, a.result).second); }
  void perform(const RemovalReply& a, Feed&) { EXPECT_TRUE(removals.emplace(a.call, a.result).second); }
  void perform(const ModelsReply& a, Feed&) { EXPECT_TRUE(models.emplace(a.call, a.result).second); }
  void perform(const ClusterReply& a, Feed&) { EXPECT_TRUE(clusters.emplace(a.call, a.result).second); }
  void perform(const UnclaimedReply& a, Feed&) { EXPECT_TRUE(unclaimed.emplace(a.call, a.result).second); }
  void perform(const DoneReply& a, Feed&) { EXPECT_TRUE(dones.emplace(a.call, a.result).second); }
};

struct TwoServers : World {
  explicit TwoServers(ControllerOptions options = defaults()) : World(std::move(options)) {
    join("memory-0", Role::kMemory);
    join("memory-1", Role::kMemory);
    join("agent-0", Role::kAgent);
    join("router-0", Role::kRouter);
  }
};

}  // namespace cenote::node
