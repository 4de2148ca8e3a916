// The agent's executors: spawned, watched, restarted.
#include <algorithm>

#include "base/status.h"
#include "node/agent.h"

namespace cenote::node {

using namespace agent;  // NOLINT

std::optional<size_t> Agent::device_of(StreamId stream) const {
  for (size_t device = 0; device < executors_.size(); ++device) {
    if (stream != 0 && executors_[device].stream == stream) return device;
  }
  return std::nullopt;
}

bool Agent::prefetches(StreamId stream, const Digest& revision) const {
  const auto device = device_of(stream);
  const auto found = device ? prefetch_.find(options_.devices[*device]) : prefetch_.end();
  return found != prefetch_.end() && std::find(found->second.begin(), found->second.end(), revision) != found->second.end();
}

void Agent::on_report(StreamId stream, const ExecutorReport& report) {
  auto device = device_of(stream);
  if (!device) {
    for (size_t i = 0; i < options_.devices.size(); ++i) {
      if (report.name == str_cat(options_.name, "/", options_.devices[i])) device = i;
    }
    if (!device) {
      actions_->push_back(CloseStream{stream, str_cat("\"", report.name, "\" is no executor of ", options_.name)});
      return;
    }
    Executor& executor = executors_[*device];
    if (executor.stream != 0) {  // Another process of the same name: the newer one counts.
      actions_->push_back(CloseStream{executor.stream, "another executor of this name attached"});
      drop_stream(executor.stream);
    }
    executor.stream = stream;
    executor.told_prefetch.reset();
    tell(stream, Attached{.cache_path = options_.cache_path, .cache_bytes = options_.cache_file_bytes, .executor_name = report.name});
    if (draining_) tell(stream, DrainExecutor{});
    tell_prefetch(*device);
  }
  Executor& executor = executors_[*device];
  executor.report = report;
  executor.heard_at = now_;
  heard(*device, report);
}

// While the agent itself stood still it could hear nobody: executors are not killed for that.
void Agent::awake() {
  const Duration late = silence_.awake(now_);
  if (late < Suspicion<size_t>::kStallMin) return;
  for (Executor& executor : executors_) {
    executor.heard_at = executor.heard_at + late;
    executor.spawned_at = executor.spawned_at + late;
  }
}

void Agent::heard(size_t device, const ExecutorUp& message) {
  const auto* beat = std::get_if<AttachBeat>(&message);
  if (beat != nullptr) silence_.expect(now_, device, beat->next);
  const bool again = beat != nullptr ? silence_.heard(now_, device, beat->next) : silence_.heard(now_, device);
  if (again) actions_->push_back(Noticed{device, false});
}

// Beats both ways while executors are attached. A silent one is only told of: routers see for themselves who answers them.
void Agent::watch_beats() {
  for (const size_t device : silence_.step(now_)) {
    ++suspected_;
    actions_->push_back(Noticed{device, true});
  }
  const bool attached = std::any_of(executors_.begin(), executors_.end(), [](const Executor& executor) { return executor.stream != 0; });
  if (!attached) {
    beat_at_ = Instant::infinite_future();
  } else if (beat_at_ == Instant::infinite_future() || now_ >= beat_at_) {
    beat_at_ = now_ + Duration{options_.beat.ns * 3 / 2};  // Twice a silence: an idle daemon's cost, and a false suspicion costs little here.
    for (const Executor& executor : executors_) {
      if (executor.stream != 0) tell(executor.stream, AttachBeat{options_.beat});
    }
  }
}

void Agent::tell_prefetch(size_t device) {
  Executor& executor = executors_[device];
  if (executor.stream == 0 || draining_) return;
  const auto found = prefetch_.find(options_.devices[device]);
  const std::vector<Digest> revisions = found == prefetch_.end() ? std::vector<Digest>{} : found->second;
  if (executor.told_prefetch == revisions) return;
  if (!executor.told_prefetch && revisions.empty()) return;
  executor.told_prefetch = revisions;
  tell(executor.stream, Prefetch{revisions});
}

void Agent::on(StreamEnded& event) {
  drop_stream(event.stream);
  for (Executor& executor : executors_) {
    if (executor.stream != event.stream) continue;
    silence_.forget(static_cast<size_t>(&executor - executors_.data()));
    executor.stream = 0;
    executor.heard_at = now_;  // It has start_timeout to end or to come back.
    executor.spawned_at = now_;
  }
}

void Agent::on(ExecutorSpawned& event) {
  Executor& executor = executors_.at(event.device);
  if (event.status.ok()) {
    executor.pid = event.pid;
    executor.spawned_at = now_;
    executor.killing = false;
    return;
  }
  ExecutorExited exited{.device = event.device, .pid = executor.pid, .how = std::string(event.status.message())};
  on(exited);
}

void Agent::on(ExecutorExited& event) {
  Executor& executor = executors_.at(event.device);
  if (executor.pid != event.pid) return;
  silence_.forget(event.device);
  if (executor.stream != 0) drop_stream(executor.stream);
  // An executor that lived a while starts with a clean slate; one that dies at once is tried ever more rarely.
  const bool lived = executor.pid != 0 && now_ - executor.spawned_at > Duration::from_seconds(10);
  executor.backoff = lived ? options_.restart_min : std::clamp(executor.backoff * 2, options_.restart_min, options_.restart_max);
  executor.pid = 0;
  executor.stream = 0;
  executor.killing = false;
  executor.told_prefetch.reset();
  executor.report = {};
  if (draining_) return;
  ++executor.restarts;
  executor.spawn_at = now_ + executor.backoff;
}

void Agent::watch_executors() {
  for (size_t device = 0; device < executors_.size(); ++device) {
    Executor& executor = executors_[device];
    if (executor.spawn_at && now_ >= *executor.spawn_at && !draining_) {
      executor.spawn_at.reset();
      actions_->push_back(SpawnExecutor{device});
      continue;
    }
    if (executor.pid == 0 || executor.killing) continue;
    const bool attached = executor.stream != 0;
    const Duration silent = now_ - (attached ? executor.heard_at : executor.spawned_at);
    if (silent < (attached ? options_.silence_max : options_.start_timeout)) continue;
    executor.killing = true;
    actions_->push_back(KillExecutor{device, str_cat("it was silent for ", silent.us() / 1'000'000, " s")});
  }
}

std::vector<ExecutorReport> Agent::executors() const {
  std::vector<ExecutorReport> reports;
  for (size_t device = 0; device < executors_.size(); ++device) {
    const Executor& executor = executors_[device];
    ExecutorReport report = executor.report;
    if (executor.stream == 0) {  // Nothing may be sent there.
      report = {};
      report.pid = executor.pid;
    }
    report.name = str_cat(options_.name, "/", options_.devices[device]);
    report.device = options_.devices[device];
    report.restarts = executor.restarts;
    reports.push_back(std::move(report));
  }
  return reports;
}

bool Agent::drained() const {
  return draining_ && std::all_of(executors_.begin(), executors_.end(), [](const Executor& executor) { return executor.pid == 0; });
}

}  // namespace cenote::node
