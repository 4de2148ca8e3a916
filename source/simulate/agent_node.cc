#include "simulate/agent_node.h"

#include <algorithm>

#include "base/status.h"
#include "simulate/executor_node.h"

namespace cenote::simulate {
namespace {

node::AgentOptions options_of(const std::string& name, const AgentShape& shape) {
  node::AgentOptions options{.name = name, .cache_bytes = shape.cache_bytes, .cache_words = shape.cache_words, .cache_path = name,
                             .cache_file_bytes = shape.cache_bytes};
  options.acquire_timeout = shape.acquire_timeout;
  options.silence_max = shape.silence_max;
  options.start_timeout = shape.start_timeout;
  for (const DeviceShape& device : shape.devices) options.devices.push_back(device.name);
  return options;
}

}  // namespace

AgentNode::AgentNode(Network& network, PlaceId place, Incarnation incarnation, const AgentShape& shape, PlaceId controller, Truth& truth)
    : Process(network, place, incarnation), shape_(shape), controller_(controller), truth_(truth),
      cache_(std::make_shared<HostCache>(shape.cache_words)),
      fetch_(*this, cache_, shape.read_timeout, [this](FetchResult result) { ended(std::move(result)); }),
      machine_(std::make_unique<node::Agent>(options_of(name(), shape))),
      link_(*this, controller, {.connected = [this] { next_report_ = world().now(); }, .directive = [this](Directive directive) { obey(std::move(directive)); }}) {
  for (size_t device = 0; device < shape_.devices.size(); ++device) {
    network.on_exit(executor_place(device), [this, device, own = incarnation, at = place](Incarnation, const std::string& how) {
      Network& net = this->network();
      net.deliver(at, own, [this, device, how] {
        const auto pid = pids_.extract(device);
        if (!pid.empty()) inputs_.emplace_back(node::agent::ExecutorExited{device, pid.mapped(), how});
      });
    });
  }
}

PlaceId AgentNode::executor_place(size_t device) const {
  auto& self = const_cast<AgentNode&>(*this);
  return self.network().find(str_cat(name(), "/", shape_.devices[device].name));
}

// Executors get SIGKILL with the agent that started them.
void AgentNode::killed() {
  cache_->agent_lost = true;
  for (size_t device = 0; device < shape_.devices.size(); ++device) {
    network().on_exit(executor_place(device), nullptr);
    if (pids_.contains(device)) network().kill(executor_place(device), "its agent died");
  }
}

Instant AgentNode::due() const {
  const Instant now = const_cast<AgentNode&>(*this).world().now();
  return std::min({next_report_, machine_->next_step(now), drain_end_, fetch_.due(now)});
}

// The loop of bin/role_agent.cc, and the fetcher's beside it.
void AgentNode::run(Instant now) {
  if (drain_end_ == Instant::infinite_future() && drain_asked_) {
    drain_end_ = now + shape_.drain_timeout;
    inputs_.emplace_back(node::agent::DrainBegan{});
    next_report_ = now;
  }
  for (bool first = true; first || !inputs_.empty(); first = false) {
    Inputs events = std::exchange(inputs_, {});
    std::vector<node::agent::Action> actions;
    const bool early = events.empty() && now < machine_->next_step(now);
    machine_->step(now, events, actions);
    if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the instant it named"));
    for (node::agent::Action& action : actions) {
      world().note(action.index());
      std::visit([&](auto& a) { perform(a, inputs_); }, action);
    }
    fetch_.step(now);
  }
  check();
  if (machine_->drained() || now >= drain_end_) return network().exit(*this, "drained");
  if (now >= next_report_) {
    report();
    next_report_ = now + shape_.heartbeat;
  }
}

void AgentNode::check() {
  const node::AgentCounts counts = machine_->counts();
  if (counts.cache_used_bytes > counts.cache_capacity_bytes || counts.cache_pinned_bytes > counts.cache_used_bytes) {
    world().fail(str_cat(name(), ": ", counts.cache_pinned_bytes, " bytes pinned, ", counts.cache_used_bytes, " used of ", counts.cache_capacity_bytes));
  }
}

void AgentNode::obey(Directive directive) {
  if (auto* assignment = std::get_if<Assignment>(&directive)) {
    inputs_.emplace_back(node::agent::AssignmentCame{std::move(*assignment)});
  } else if (std::holds_alternative<DrainMember>(directive)) {
    drain_asked_ = true;
  }
}

void AgentNode::report() {
  const node::AgentCounts counts = machine_->counts();
  link_.report({.name = name(), .role = Role::kAgent, .incarnation = incarnation(), .address = name(), .draining = machine_->draining(),
                .cache_capacity_bytes = counts.cache_capacity_bytes, .cache_used_bytes = counts.cache_used_bytes,
                .cache_pinned_bytes = counts.cache_pinned_bytes, .integrity_failures = fetch_.corrupt_chunks(), .executors = machine_->executors()});
}

// ---- executors' streams ----------------------------------------------------------------------------------------------------
void AgentNode::take(const std::shared_ptr<AttachWire>& wire) {
  const node::agent::StreamId number = next_stream_++;
  streams_[number] = wire;
  wire->to_taker = [this, number](ExecutorUp message) { said(number, std::move(message)); };
  wire->link->end(1).closed = [this, number](const absl::Status&) {
    streams_.erase(number);
    inputs_.emplace_back(node::agent::StreamEnded{number});
    next_report_ = world().now();
  };
}

void AgentNode::said(node::agent::StreamId stream, ExecutorUp message) {
  const auto* report = std::get_if<ExecutorReport>(&message);
  if (report != nullptr && changes(*report)) next_report_ = world().now();
  inputs_.emplace_back(node::agent::ExecutorSaid{stream, std::move(message)});
}

bool AgentNode::changes(const ExecutorReport& report) {
  std::string state = str_cat(report.address, " ", report.incarnation);
  for (const RevisionState& revision : report.revisions) str_append(&state, " ", revision.revision.short_hex(), static_cast<int>(revision.readiness));
  return std::exchange(reported_[report.name], state) != state;
}

void AgentNode::perform(node::agent::Tell& a, Inputs&) {
  if (const auto stream = streams_.find(a.stream); stream != streams_.end()) stream->second->down(std::move(a.message));
}

void AgentNode::perform(node::agent::CloseStream& a, Inputs&) {
  world().say(name(), ": executor stream ", a.stream, ": ", a.why);
  const auto stream = streams_.find(a.stream);
  if (stream != streams_.end()) stream->second->link->close(1, absl::FailedPreconditionError(a.why));
}

void AgentNode::perform(node::agent::SpawnExecutor& a, Inputs& inputs) {
  const PlaceId place = executor_place(a.device);
  if (network().process(place) != nullptr) return world().fail(str_cat(name(), " starts an executor beside the one that runs"));
  const int64_t pid = next_pid_++;
  pids_[a.device] = pid;
  inputs.emplace_back(node::agent::ExecutorSpawned{.device = a.device, .pid = pid});
  network().start(place, std::make_unique<ExecutorNode>(network(), place, world().draw_incarnation(), pid, shape_.devices[a.device], this->place(),
                                                        cache_, truth_));
}

void AgentNode::perform(node::agent::KillExecutor& a, Inputs&) {
  world().say(name(), ": kills ", shape_.devices[a.device].name, ": ", a.why);
  const PlaceId place = executor_place(a.device);
  world().after(Duration::from_us(50), [net = &network(), place] { net->kill(place, "killed by its agent"); });
}

void AgentNode::perform(node::agent::StartFetch& a, Inputs&) {
  world().say(name(), ": fetches for ", a.job.revision.short_hex(), ", job ", a.job.id, ", ", a.job.blocks.size(), " blocks");
  fetch_.add(std::move(a.job));
}

void AgentNode::ended(FetchResult result) {
  if (world().tracing()) world().say(name(), ": job ", result.job, " ended: ", result.status.ToString());
  inputs_.emplace_back(node::agent::FetchEnded{std::move(result)});
}

// ---- manifests -------------------------------------------------------------------------------------------------------------
void AgentNode::perform(node::agent::CheckManifest& a, Inputs&) {
  network().later(*this, world().draw(Duration::from_us(20), Duration::from_us(400)), [this, a] {
    inputs_.emplace_back(node::agent::ManifestChecked{a.revision, check_manifest(a)});
  });
}

absl::StatusOr<std::vector<BlockEntry>> AgentNode::check_manifest(const node::agent::CheckManifest& check) const {
  const RevisionRecord* record = truth_.model(check.revision);
  if (record == nullptr || record->manifest_blocks.size() != check.extents.size()) return absl::DataLossError("the manifest does not hash to its revision's digest");
  for (size_t i = 0; i < check.extents.size(); ++i) {
    if (cache_->data.holds(check.extents[i].offset_bytes, record->manifest_blocks[i])) continue;
    if (check.hashed) const_cast<AgentNode&>(*this).world().fail(str_cat(name(), " reads a manifest that is not the one its fetch has checked"));
    return absl::DataLossError("the manifest does not hash to its revision's digest");
  }
  return Truth::entries(*record);
}

}  // namespace cenote::simulate
