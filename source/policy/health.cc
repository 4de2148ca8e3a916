#include "policy/health.h"

#include <algorithm>

#include "base/text.h"

namespace cenote::policy {
namespace {

double bytes_per_us(const ServerSample& sample) { return static_cast<double>(sample.bytes) / static_cast<double>(std::max<int64_t>(1, sample.read_time.us())); }

template <typename Value>
Value median(std::vector<Value> values) {
  if (values.empty()) return {};
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What is wrong with one of them, measured against the others.
class Judge {
 public:
  Judge(std::span<const HealthServer> servers, size_t self, const HealthLimits& limits) : sample_(servers[self].lately), limits_(limits) {
    std::vector<double> rates;
    std::vector<uint64_t> failures, corrupt, returns;
    for (size_t i = 0; i < servers.size(); ++i) {
      if (i == self || !servers[i].there) continue;
      if (servers[i].lately.reads >= limits.reads_min) rates.push_back(bytes_per_us(servers[i].lately));
      failures.push_back(servers[i].lately.failures);
      corrupt.push_back(servers[i].lately.corrupt);
      returns.push_back(servers[i].lately.returns);
    }
    rate_ = median(std::move(rates));
    peers_ = {.failures = median(std::move(failures)), .corrupt = median(std::move(corrupt)), .returns = median(std::move(returns))};
  }

  bool measured() const { return sample_.reads >= limits_.reads_min && rate_ > 0; }
  bool slow_by(double factor) const {
    return measured() && bytes_per_us(sample_) * factor < rate_ && sample_.read_time.ns / static_cast<int64_t>(sample_.reads) > limits_.slow_floor.ns;
  }
  Health trouble() const {
    if (sample_.corrupt > limits_.corrupt_max + peers_.corrupt) return {.trouble = Trouble::kCorrupt, .reason = str_cat("corrupt: it found ", sample_.corrupt, " bad copies in ", window())};
    if (sample_.returns > limits_.returns_max + peers_.returns) return {.trouble = Trouble::kFlapping, .reason = str_cat("flapping: it came back ", sample_.returns, " times in ", window())};
    if (sample_.failures > limits_.failures_max + peers_.failures) return {.trouble = Trouble::kFailing, .reason = str_cat("failing: ", sample_.failures, " times in ", window(), " agents lost what they read from it")};
    if (slow_by(limits_.slow_factor)) {
      return {.trouble = Trouble::kSlow, .reason = str_cat("slow: a read of it goes at ", rate_text(bytes_per_us(sample_)), ", of others at ", rate_text(rate_))};
    }
    return {};
  }

 private:
  static std::string window() { return str_cat(static_cast<int64_t>(HealthLimits::kLookedAt.seconds()), " s"); }
  static std::string rate_text(double rate) { return str_cat(static_cast<int64_t>(rate * 10) / 10.0, " MB/s"); }

  const ServerSample& sample_;
  const HealthLimits& limits_;
  double rate_ = 0;          // The others', 0: none measured.
  ServerSample peers_;
};

Health judge_one(Instant now, std::span<const HealthServer> servers, size_t self, const HealthLimits& limits, bool may_exclude) {
  const Health& last = servers[self].last;
  const Judge judge(servers, self, limits);
  const auto probation = [&](uint32_t times) { return limits.probation * (int64_t{1} << std::min(times - 1, limits.probation_doubled_max)); };
  Health found = judge.trouble();
  if (last.trouble == Trouble::kNone) {
    if (found.trouble == Trouble::kNone || !may_exclude) {
      Health well = last;
      if (now - last.since > limits.probation * 10) well.times = 0;
      return well;
    }
    found.times = last.times + 1;
    found.since = now;
    found.until = now + probation(found.times);
    return found;
  }
  const Health well{.trouble = Trouble::kNone, .reason = {}, .since = now, .until = {}, .times = last.times};
  if (last.trouble == Trouble::kSlow && found.trouble == Trouble::kNone && judge.measured() && !judge.slow_by(limits.slow_factor / 2) && now - last.since > HealthLimits::kLookedAt) return well;
  if (now < last.until) return last;
  if (found.trouble == Trouble::kNone) return well;
  Health longer = last;
  longer.until = now + probation(last.times);
  return longer;
}

}  // namespace

std::vector<Health> judge_health(Instant now, std::span<const HealthServer> servers, const HealthLimits& limits) {
  std::vector<Health> health;
  size_t there = 0, excluded = 0;
  for (const HealthServer& server : servers) {
    there += server.there ? 1 : 0;
    excluded += server.there && server.last.trouble != Trouble::kNone ? 1 : 0;
  }
  for (size_t i = 0; i < servers.size(); ++i) {
    if (!servers[i].there) {
      health.push_back(servers[i].last);
      continue;
    }
    health.push_back(judge_one(now, servers, i, limits, 2 * (excluded + 1) <= there));
    if (servers[i].last.trouble == Trouble::kNone && health.back().trouble != Trouble::kNone) ++excluded;
    if (servers[i].last.trouble != Trouble::kNone && health.back().trouble == Trouble::kNone) --excluded;
  }
  for (; 2 * excluded > there; --excluded) {
    Health* next = nullptr;
    for (size_t i = 0; i < servers.size(); ++i) {
      if (servers[i].there && health[i].trouble != Trouble::kNone && (next == nullptr || health[i].until < next->until)) next = &health[i];
    }
    *next = {.trouble = Trouble::kNone, .reason = {}, .since = now, .until = {}, .times = next->times};
  }
  return health;
}

}  // namespace cenote::policy
