// The executor's device on virtual time: mapping, copying, computing, and whether what it computes on is right.
#include <algorithm>

#include "base/status.h"
#include "simulate/executor_node.h"

namespace cenote::simulate {
namespace {

constexpr int64_t kCopyBytesPerUs = 4'000;
constexpr uint64_t kLargeReplyEvery = 8;   // Of eight models one answers with more than may travel through a router.

}  // namespace

// The preparing thread: map the extents, read the manifest, build the graph.
void ExecutorNode::prepare(const Digest& revision, const Acquired& acquired) {
  network().later(*this, world().draw(Duration::from_us(200), Duration::from_ms(8)), [this, revision, acquired] { prepared(revision, acquired); });
}

void ExecutorNode::prepared(const Digest& revision, const Acquired& acquired) {
  Held held{.record = truth_.model(revision), .acquired = acquired};
  absl::Status status;
  if (held.record == nullptr || held.record->blocks.size() != acquired.weights.size()) {
    world().fail(str_cat(name(), " was given extents that do not fit revision ", revision.short_hex()));
    return;
  }
  for (size_t i = 0; i < acquired.manifest.size(); ++i) {
    if (!cache_->data.holds(acquired.manifest[i].offset_bytes, held.record->manifest_blocks[i]) || !cache_->whole(acquired.manifest[i])) {
      world().fail(str_cat(name(), " maps a manifest that is not there, of ", revision.short_hex()));
    }
  }
  uint64_t taken = held.record->weight_bytes;
  for (const auto& [other, bytes] : device_bytes_) taken += bytes;
  if (!shape_.maps_host_memory && taken > shape_.memory_bytes) status = absl::ResourceExhaustedError("the device has no room");
  world().say(name(), ": prepared ", revision.short_hex(), ": ", status.ok() ? "ok" : std::string(status.message()));
  acquires_.prepared(revision);
  bool all_cached = false;
  if (status.ok()) {
    all_cached = acquired.cached_bytes >= held.record->weight_bytes;
    if (!shape_.maps_host_memory) device_bytes_[revision] = held.record->weight_bytes;
    for (const CacheExtent& extent : acquired.weights) held.generations.push_back(cache_->words[extent.word].generation);
    if (const auto early = fetched_early_.extract(revision); !early.empty()) {
      held.status = early.mapped().status;
      held.fetched = held.status.ok();
    }
    held_[revision] = std::move(held);
  } else {
    fetched_early_.erase(revision);
    acquires_.given_back(revision);
    attach_->up(ReleaseRevision{revision});
  }
  inputs_.emplace_back(node::executor::RevisionOpened{revision, status, all_cached});
}

// What is mapped and was announced as arrived must be this revision's bytes.
void ExecutorNode::check_weights(const Held& held, const char* when) {
  if (held.released) return;  // They lie on the device, and were right when they were copied.
  for (size_t i = 0; i < held.acquired.weights.size(); ++i) {
    const CacheExtent& extent = held.acquired.weights[i];
    if (cache_->words[extent.word].generation != held.generations[i]) {
      world().fail(str_cat(name(), ": a slot that it has mapped was given to another block, ", when, " ", held.record->name));
    } else if (!cache_->data.holds(extent.offset_bytes, held.record->blocks[i])) {
      world().fail(str_cat(name(), ": block ", held.record->blocks[i].id.short_hex(), " is not what lies there, ", when, " ", held.record->name));
    }
  }
}

void ExecutorNode::look_at_weights() {
  for (auto& [revision, held] : held_) look(revision, held);
}

// As load/resident.cc tells its readiness.
void ExecutorNode::look(const Digest& revision, Held& held) {
  const bool final = held.readiness == Readiness::kMapped || held.readiness == Readiness::kResident;
  const bool whole = std::all_of(held.acquired.weights.begin(), held.acquired.weights.end(), [&](const CacheExtent& extent) { return cache_->whole(extent); });
  if (!final && whole && !std::exchange(held.settling, true)) {
    const auto bytes = static_cast<int64_t>(held.record->weight_bytes);
    const Duration time = Duration::from_us(shape_.maps_host_memory ? 200 : 100 + bytes / kCopyBytesPerUs);
    network().later(*this, time, [this, revision, ticket = held.acquired.ticket] {
      const auto known = held_.find(revision);
      if (known == held_.end() || known->second.acquired.ticket != ticket) return;
      check_weights(known->second, "when it has mapped or copied");
      known->second.readiness = shape_.maps_host_memory ? Readiness::kMapped : Readiness::kResident;
    });
  }
  if (!final) held.readiness = !held.status.ok() ? Readiness::kFailed : held.fetched || whole ? Readiness::kCached : Readiness::kLoading;
  if (held.readiness == std::exchange(held.reported, held.readiness)) return;
  inputs_.emplace_back(node::executor::ReadinessChanged{revision, held.readiness, held.status});
  if (held.readiness == Readiness::kResident && !std::exchange(held.released, true)) attach_->up(ReleaseRevision{revision});
}

// ---- the computing thread --------------------------------------------------------------------------------------------------
void ExecutorNode::perform(node::executor::RunModel& action) {
  if (run_ && (!run_->model || run_->revision != action.revision)) return world().fail(str_cat(name(), " computes two at once"));
  if (ahead_.size() + 1 > node::Executor::kAheadMax) return world().fail(str_cat(name(), " has ", ahead_.size() + 1, " requests to compute at once"));
  const auto before = answered_.find(action.id);
  if (before != answered_.end() && world().now() < before->second + node::Executor::kReplyMemory) {
    world().fail(str_cat(name(), " computes request ", action.id.low, " again, whose reply it remembers"));
  }
  const Digest revision = action.revision;
  if (!held_.contains(revision)) return world().fail(str_cat(name(), " runs a revision that it does not hold"));
  if (run_) return ahead_.push_back(std::move(action));
  begin_run(std::move(action));
}

void ExecutorNode::begin_run(node::executor::RunModel model) {
  ++run_number_;
  const Duration left = std::max(Duration{}, model.deadline - world().now());
  run_ = Run{.revision = model.revision, .model = std::move(model)};
  network().later(*this, left, [this, number = run_number_] {
    if (run_ && run_number_ == number && !run_->computing) end_run(absl::DeadlineExceededError("the deadline passed while weights arrived"));
  });
  go_on();
}

void ExecutorNode::perform(const node::executor::WarmUp& action) {
  if (run_) return world().fail(str_cat(name(), " computes two at once"));
  ++run_number_;
  run_ = Run{.revision = action.revision};
  go_on();
}

// Computes once all weights are there; ends if they cannot come.
void ExecutorNode::go_on() {
  if (!run_ || run_->computing) return;
  const Held& held = held_.at(run_->revision);
  bool whole = true, failed = false;
  if (held.readiness != Readiness::kResident) {
    for (const CacheExtent& extent : held.acquired.weights) {
      if (cache_->whole(extent)) continue;
      whole = false;
      failed |= cache_->words[extent.word].failed;
    }
  }
  if (failed) return end_run(absl::UnavailableError(held.status.ok() ? "weights cannot be had" : held.status.message()));
  if (!whole) return;
  run_->computing = true;
  check_weights(held, "before it computes");
  // Of half the models a run is short, so that several are handed over at once.
  run_->time = world().draw(Duration::from_ms(1), run_->model ? shape_.compute_max : Duration::from_ms(15));
  if (run_->model && run_->revision.bytes[1] % 2 == 0) run_->time = world().draw(Duration::from_us(5), node::Executor::kAheadComputeMax);
  network().later(*this, run_->time, [this, number = run_number_] {
    if (run_ && run_number_ == number) compute_ended();
  });
}

void ExecutorNode::compute_ended() {
  check_weights(held_.at(run_->revision), "after it computed");
  end_run(absl::OkStatus());
}

void ExecutorNode::end_run(absl::Status status) {
  const Run run = std::move(*run_);
  run_.reset();
  if (!ahead_.empty()) {
    node::executor::RunModel next = std::move(ahead_.front());
    ahead_.pop_front();
    begin_run(std::move(next));
  }
  if (world().tracing()) {
    world().say(name(), ": ", run.model ? str_cat("ran request ", run.model->id.low) : "warmed up", " on ", run.revision.short_hex(), ": ", status.ToString());
  }
  if (!run.model) {
    inputs_.emplace_back(node::executor::WarmUpEnded{run.revision, std::move(status)});
    return;
  }
  node::executor::RunEnded ended{.id = run.model->id, .status = std::move(status), .stages = {.compute_us = run.time.us()}};
  if (ended.status.ok()) {
    std::string bytes = run.revision.hex();
    if (run.revision.bytes[0] % kLargeReplyEvery == 0) bytes.resize(node::Executor::kRememberedBytesMax + 64, '.');
    ended.outputs.push_back({.name = "y", .dtype = DType::kU8, .shape = {static_cast<int64_t>(bytes.size())}, .bytes = std::move(bytes)});
  }
  inputs_.emplace_back(std::move(ended));
}

}  // namespace cenote::simulate
