#include <algorithm>
#include <array>

#include "base/status.h"
#include "fabric/faulty/faulty.h"
#include "fabric/faulty/faulty_endpoint.h"

namespace cenote::fabric {

FaultyTransport::FaultyTransport(std::unique_ptr<Transport> inner, FaultPlan plan)
    : inner_(std::move(inner)), plan_(std::move(plan)), rng_(plan_.seed) {}

FaultyTransport::~FaultyTransport() { CENOTE_CHECK(endpoints_.empty()); }

void FaultyTransport::kill_peer(const Address& peer) {
  {
    const std::lock_guard lock(mutex_);
    counts_.deaths += dead_.insert(name_of(peer)).second;
  }
  wake();
}

void FaultyTransport::silence_peer(const Address& peer) {
  const std::lock_guard lock(mutex_);
  silent_.insert(name_of(peer));
}

void FaultyTransport::revive_peer(const Address& peer) {
  const std::lock_guard lock(mutex_);
  dead_.erase(name_of(peer));
  silent_.erase(name_of(peer));
}

void FaultyTransport::set_plan(FaultPlan plan) {
  const std::lock_guard lock(mutex_);
  plan_ = std::move(plan);
  rng_ = Rng(plan_.seed);
}

FaultCounts FaultyTransport::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> FaultyTransport::register_memory(std::span<std::byte> bytes, Access access) {
  return inner_->register_memory(bytes, access);
}

absl::StatusOr<std::unique_ptr<Endpoint>> FaultyTransport::connect(const Address& peer) {
  ExclusiveUse::Scope scope(use_);
  CENOTE_ASSIGN_OR_RETURN(std::unique_ptr<Endpoint> inner, inner_->connect(peer));
  return std::make_unique<FaultyEndpoint>(*this, std::move(inner), peer);
}

Fault FaultyTransport::draw(const Address& peer) {
  const std::lock_guard lock(mutex_);
  // Two draws for every operation, so that a plan's later faults do not depend on its earlier ones' kinds.
  double dice = rng_.unit();
  CENOTE_CHECK(plan_.delay_min <= plan_.delay_max);
  const auto width = static_cast<double>((plan_.delay_max - plan_.delay_min).ns);
  const Duration delay = std::min(plan_.delay_cap, plan_.delay_min + Duration{static_cast<int64_t>(rng_.unit() * width)});
  if (const auto fault = plan_.at.find(next_number_); fault != plan_.at.end()) return fault->second;
  if (plan_.only && *plan_.only != peer) return {};
  const std::array<std::pair<double, FaultKind>, 5> chances = {{{plan_.delay_chance, FaultKind::kDelay},
                                                                {plan_.error_chance, FaultKind::kError},
                                                                {plan_.silence_chance, FaultKind::kSilence},
                                                                {plan_.corrupt_chance, FaultKind::kCorrupt},
                                                                {plan_.death_chance, FaultKind::kPeerDeath}}};
  for (const auto& [chance, kind] : chances) {
    if (dice < chance) return {kind, delay};
    dice -= chance;
  }
  return {};
}

void FaultyTransport::corrupt(std::span<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const uint64_t bit = rng_.below(bytes.size() * 8);
  bytes[bit / 8] ^= std::byte{1} << (bit % 8);
}

bool FaultyTransport::peer_dead(const Address& peer) const {
  const std::lock_guard lock(mutex_);
  return dead_.contains(name_of(peer));
}

bool FaultyTransport::peer_silent(const Address& peer) const {
  const std::lock_guard lock(mutex_);
  return silent_.contains(name_of(peer));
}

void FaultyTransport::bury_the_dead(Instant now) {
  for (FaultyEndpoint* endpoint : endpoints_) {
    if (endpoint->in_flight() != 0 && peer_dead(endpoint->peer())) endpoint->break_now(now);
  }
}

void FaultyTransport::finish(uint64_t number, absl::StatusCode code) {
  const auto found = operations_.find(number);
  CENOTE_CHECK(found != operations_.end());
  const Operation& operation = found->second;
  if (code == absl::StatusCode::kOk) {
    ++(operation.write ? stats_.writes : stats_.reads);
    (operation.write ? stats_.written_bytes : stats_.read_bytes) += operation.local.size();
  } else {
    ++stats_.failed;
    if (code == absl::StatusCode::kDeadlineExceeded) ++stats_.deadlines;
  }
  ready_.push_back({operation.endpoint, {.tag = operation.tag, .code = code}});
  operations_.erase(found);
}

void FaultyTransport::take_inner(Instant now) {
  std::array<Completion, 64> completions;
  size_t count = 0;
  do {
    count = inner_->poll(completions);
    for (size_t i = 0; i < count; ++i) {
      const auto found = operations_.find(completions[i].tag);
      if (found == operations_.end()) continue;  // Ended with its endpoint while we were in this batch.
      Operation& operation = found->second;
      if (completions[i].code != absl::StatusCode::kOk) {
        FaultyEndpoint* endpoint = operation.endpoint;
        finish(found->first, completions[i].code);
        endpoint->break_now(now);
        continue;
      }
      if (operation.fault.kind == FaultKind::kCorrupt && !operation.write) corrupt(operation.local);
      if (operation.fault.kind == FaultKind::kDelay) {
        operation.release_at = now + operation.fault.delay;
      } else {
        finish(found->first, absl::StatusCode::kOk);
      }
    }
  } while (count == completions.size());
}

void FaultyTransport::release_due(Instant now) {
  std::vector<uint64_t> released;
  std::set<FaultyEndpoint*> late;
  for (const auto& [number, operation] : operations_) {
    if (operation.deadline <= now) {
      late.insert(operation.endpoint);
    } else if (operation.release_at <= now) {
      released.push_back(number);
    }
  }
  for (const uint64_t number : released) finish(number, absl::StatusCode::kOk);
  for (FaultyEndpoint* endpoint : late) endpoint->break_now(now);
}

Instant FaultyTransport::next_due() const {
  Instant due = Instant::infinite_future();
  for (const auto& [number, operation] : operations_) due = std::min({due, operation.deadline, operation.release_at});
  return due;
}

void FaultyTransport::progress(Instant now) {
  bury_the_dead(now);
  take_inner(now);
  release_due(now);
}

size_t FaultyTransport::poll(std::span<Completion> completions) {
  ExclusiveUse::Scope scope(use_);
  progress(monotonic_now());
  size_t count = 0;
  while (count < completions.size() && !ready_.empty()) {
    completions[count++] = ready_.front().completion;
    ready_.front().endpoint->handed_out();
    ready_.pop_front();
  }
  return count;
}

void FaultyTransport::wait(Duration at_most) {
  ExclusiveUse::Scope scope(use_);
  const Instant now = monotonic_now();
  if (!ready_.empty()) return;
  const Instant until = std::min(now + at_most, next_due());
  inner_->wait(until <= now ? Duration{} : until - now);
}

}  // namespace cenote::fabric
