#include "bin/role_executor_device.h"

#include <algorithm>

#include "base/status.h"

namespace cenote {
namespace {

// FetchDone comes from the agent right after the last chunk, by another way than the chunk itself.
constexpr Duration kFetchDoneWait = Duration::from_ms(5);
// The same for a fetch that failed: the chunk's word says only that, FetchDone why.
constexpr Duration kFailureWait = Duration::from_ms(500);
// Results of the smallest models are told together: looking at each and sending it alone costs more than computing it.
constexpr Duration kQuickRun = Duration::from_us(30);
constexpr Duration kUnseenMax = Duration::from_us(100);

load::GroupRule group_rule(const GroupSetting& setting) {
  switch (setting.kind) {
    case GroupSetting::Kind::kLayer: return {.kind = load::GroupRule::Kind::kLayer};
    case GroupSetting::Kind::kModel: return {.kind = load::GroupRule::Kind::kModel};
    case GroupSetting::Kind::kBytes: break;
  }
  return {.kind = load::GroupRule::Kind::kBytes, .bytes = setting.bytes};
}

// Callers name their inputs; models take them in the signature's order. What does not fit by name stays, for run() to refuse by name.
void order_inputs(const Signature& signature, std::vector<Tensor>& inputs) {
  if (inputs.size() != signature.inputs.size()) return;
  std::vector<size_t> order;
  for (const ValueSpec& spec : signature.inputs) {
    const auto found = std::find_if(inputs.begin(), inputs.end(), [&](const Tensor& input) { return input.name == spec.name; });
    if (found == inputs.end()) return;
    order.push_back(found - inputs.begin());
  }
  if (std::is_sorted(order.begin(), order.end())) return;
  std::vector<Tensor> sorted;
  for (const size_t index : order) sorted.push_back(std::move(inputs[index]));
  inputs = std::move(sorted);
}

}  // namespace

void HeldRevision::fetch_done(const FetchDone& done) {
  weights->fetch_done(done);
  const std::lock_guard lock(mutex_);
  fetched_ = true;
  changed_.notify_all();
}

void HeldRevision::wait_fetched(Duration at_most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(at_most.ns), [this] { return fetched_; });
}

absl::StatusOr<std::unique_ptr<ExecutorDevice>> ExecutorDevice::start(const ClusterSettings& settings, const DeviceSettings& device,
                                                                      Post post, load::WantCallback want) {
  std::unique_ptr<ExecutorDevice> out(new ExecutorDevice);
  out->load_options_.group = group_rule(settings.group);
  out->compute_ms_ = device.compute_ms;
  out->post_ = std::move(post);
  out->want_ = std::move(want);
  CENOTE_ASSIGN_OR_RETURN(out->device_, device::open_device({.name = device.name, .memory_bytes = device.memory_bytes,
                                                             .copy_gb_per_s = device.copy_gb_per_s, .copy_latency = device.copy_latency}));
  CENOTE_ASSIGN_OR_RETURN(out->engine_, execute::open_engine({.threads = static_cast<int>(device.threads)}));
  out->preparer_ = std::make_unique<Worker>();
  out->computer_ = std::make_unique<Worker>();
  return out;
}

ExecutorDevice::~ExecutorDevice() {
  if (view_ != nullptr) view_->agent_lost();
  computer_.reset();
  preparer_.reset();
}

absl::Status ExecutorDevice::attach(const std::string& cache_path, uint64_t cache_bytes) {
  CENOTE_ASSIGN_OR_RETURN(view_, cache::CacheView::open(cache_path, cache_bytes));
  return absl::OkStatus();
}

void ExecutorDevice::open(const Digest& revision, Acquired acquired) {
  preparer_->post([this, revision, acquired = std::move(acquired)] { post_(prepare(revision, acquired), false); });
}

Prepared ExecutorDevice::prepare(const Digest& revision, const Acquired& acquired) {
  Prepared out{.revision = revision};
  uint64_t weight_bytes = 0;
  for (const CacheExtent& extent : acquired.weights) weight_bytes += extent.size_bytes;
  out.all_cached = acquired.cached_bytes >= weight_bytes;
  auto held = std::make_shared<HeldRevision>();
  auto weights = load::ResidentRevision::map(revision, acquired, *view_, *device_, load_options_, want_);
  if (!weights.ok()) {
    out.status = weights.status();
    return out;
  }
  held->weights = *std::move(weights);
  auto model = engine_->load(held->weights->manifest(), held->weights->weights());
  if (!model.ok()) {
    out.status = model.status();
    return out;
  }
  held->model = *std::move(model);
  out.held = std::move(held);
  return out;
}

void ExecutorDevice::run(node::executor::RunModel run, std::shared_ptr<HeldRevision> held) {
  const uint64_t bytes = run.request->payload_bytes;
  {
    const std::lock_guard lock(waiting_mutex_);
    waiting_.push_back(bytes);
  }
  computer_->post([this, bytes, run = std::move(run), held = std::move(held)]() mutable {
    const Instant began = monotonic_now();
    const uint64_t next_bytes = begin_run();
    node::executor::RunEnded ended = compute(run, *held);
    held.reset();  // Before the event: close() is the last holder's.
    post_(std::move(ended), next_ends_soon(began, next_bytes <= bytes));
  });
}

uint64_t ExecutorDevice::begin_run() {
  const std::lock_guard lock(waiting_mutex_);
  waiting_.pop_front();
  return waiting_.empty() ? UINT64_MAX : waiting_.front();
}

// `small`: behind it waits a run with no more input. It is of the same revision (node/executor.h hands over no other), so it takes about as
// long; one with more input, a larger batch perhaps, may take any time.
bool ExecutorDevice::next_ends_soon(Instant began, bool small) {
  const Instant now = monotonic_now();
  const Instant unseen_since = unseen_since_.value_or(now);
  const bool soon = small && now - began <= kQuickRun && now - unseen_since <= kUnseenMax;
  unseen_since_ = soon ? std::optional(unseen_since) : std::nullopt;
  return soon;
}

node::executor::RunEnded ExecutorDevice::compute(const node::executor::RunModel& run, HeldRevision& held) {
  node::executor::RunEnded ended{.id = run.id};
  order_inputs(held.model->signature(), run.request->inputs);
  execute::RunOptions options{.deadline = run.deadline};
  if (!held.weights->gate().complete()) options.gate = &held.weights->gate();
  execute::RunStats stats;
  auto outputs = held.model->run(run.request->inputs, options, &stats);
  ended.status = outputs.status();
  if (options.gate != nullptr && absl::IsUnavailable(ended.status)) {
    held.wait_fetched(kFailureWait);
    if (absl::Status why = held.weights->status(); !why.ok()) ended.status = std::move(why);
  }
  if (outputs.ok()) {
    ended.outputs = *std::move(outputs);
    const std::string name = run.request->model.substr(0, run.request->model.find_first_of(":@"));
    if (const auto calibrated = compute_ms_.find(name); calibrated != compute_ms_.end()) {
      const Instant began = monotonic_now();
      device_->pace_compute(stats.compute, Duration::from_seconds(calibrated->second * 1e-3));
      stats.compute = stats.compute + (monotonic_now() - began);
    }
  }
  Waterfall& w = ended.stages;
  w.compute_us = stats.compute.us();
  w.wait_us = stats.wait.us();
  if (!run.loading) return ended;
  load::LoadStats load = held.weights->stats();
  const bool fetched_some = load.cached_bytes < held.weights->manifest().range_bytes();
  if (outputs.ok() && fetched_some && load.network_bytes == 0) {
    held.wait_fetched(kFetchDoneWait);
    load = held.weights->stats();
  }
  w.network_us = load.network.us();
  w.verify_us = load.verify.us();
  w.copy_us = load.copy.us();
  w.network_bytes = load.network_bytes;
  w.copied_bytes = load.copied_bytes;
  return ended;
}

void ExecutorDevice::warm_up(const Digest& revision, std::shared_ptr<HeldRevision> held) {
  computer_->post([this, revision, held = std::move(held)]() mutable {
    absl::Status status = held->model->warm_up();
    held.reset();
    post_(node::executor::WarmUpEnded{revision, std::move(status)}, false);
  });
}

void ExecutorDevice::close(const Digest& revision, std::shared_ptr<HeldRevision> held) {
  preparer_->post([this, revision, held = std::move(held)]() mutable {
    held.reset();
    post_(Closed{revision}, false);
  });
}

}  // namespace cenote
