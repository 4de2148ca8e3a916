#include "load/server_table.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace cenote::load {
namespace {

// How long a server's "I do not hold this" counts.
constexpr Duration kMissingFor = Duration::from_seconds(1);
// How long a server is left alone about blocks that it holds and could not give in the time it had.
constexpr Duration kLeftOutFor = Duration::from_ms(100);

}  // namespace

std::vector<std::string> ServerTable::set(const std::vector<MemoryServerInfo>& servers) {
  std::vector<std::string> gone;
  std::map<std::string, Server> next;
  for (const MemoryServerInfo& info : servers) {
    const auto old = servers_.find(info.name);
    if (old != servers_.end() && old->second.info.incarnation == info.incarnation &&
        old->second.info.fabric_address == info.fabric_address && old->second.info.fabric_provider == info.fabric_provider) {
      next[info.name] = std::move(old->second);
    } else if (old != servers_.end()) {
      gone.push_back(info.name);
    }
    next[info.name].info = info;
  }
  for (const auto& [name, server] : servers_) {
    if (!next.contains(name)) gone.push_back(name);
  }
  for (const std::string& name : gone) {
    silence_.forget(name);
    std::erase_if(probes_, [&](const auto& probe) { return probe.second == name; });
  }
  servers_ = std::move(next);
  return gone;
}

Availability ServerTable::availability(const std::string& name, const Digest& block, Instant now) const {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return Availability::kLater;
  const Server& server = found->second;
  if (now < server.retry_at) return Availability::kLater;
  const auto missing = server.missing_until.find(block);
  if (missing != server.missing_until.end() && now < missing->second) return Availability::kLater;
  const auto held = server.held.find(block);
  const bool ready = held != server.held.end() && now + held->second.margin <= held->second.expires;
  if (ready) return Availability::kReady;
  return server.asking && now - server.asked_at > limits_.silence_max ? Availability::kLater : Availability::kPending;
}

bool ServerTable::fresh(const std::string& name, const Digest& block, Instant now) const {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return false;
  const auto held = found->second.held.find(block);
  return held != found->second.held.end() && now < held->second.renew_at;
}

bool ServerTable::slow(const std::string& name, Instant now) const {
  const auto found = servers_.find(name);
  return found != servers_.end() && now < found->second.slow_until;
}

bool ServerTable::may_ask(const std::string& name, Instant now) const {
  const auto found = servers_.find(name);
  return found != servers_.end() && !found->second.asking && now >= found->second.retry_at;
}

void ServerTable::asked(const std::string& name, std::vector<Digest> blocks, Instant now) {
  Server& server = servers_.at(name);
  server.asking = true;
  server.asked = std::move(blocks);
  server.asked_at = now;
}

absl::Status ServerTable::granted(const std::string& name, Instant sent_at, const absl::StatusOr<Grant>& grant, Instant now) {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return absl::OkStatus();
  Server& server = found->second;
  server.asking = false;
  const std::vector<Digest> asked = std::exchange(server.asked, {});
  if (!grant.ok()) return absl::UnavailableError(str_cat("grant of ", name, ": ", to_std(grant.status().message())));
  if (grant->incarnation != server.info.incarnation) {
    return absl::UnavailableError(str_cat(name, " granted as incarnation ", grant->incarnation, ", the controller knows ",
                                          server.info.incarnation, "; it must have restarted"));
  }
  std::erase_if(server.held, [&](const auto& entry) { return entry.second.expires <= now; });
  std::erase_if(server.missing_until, [&](const auto& entry) { return entry.second <= now; });
  const Instant expires = sent_at + grant->duration;
  const Duration left = std::max(Duration{}, expires - now);  // A server may have had the call for a while, and added that.
  for (const BlockGrant& block : grant->blocks) {
    Held& held = server.held[block.id];
    held = {.offset_bytes = block.offset_bytes,
            .size_bytes = block.size_bytes,
            .region = {.key = grant->region_key, .base = grant->region_base},
            .expires = expires,
            .renew_at = now + Duration{left.ns / 3 * 2},
            .margin = std::min(limits_.read_timeout, Duration{left.ns / 4})};
    server.missing_until.erase(block.id);
  }
  for (const Digest& id : grant->missing) {
    server.held.erase(id);
    server.missing_until[id] = now + kMissingFor;
  }
  if (grant->blocks.empty() && grant->missing.empty()) {
    for (const Digest& id : asked) server.missing_until[id] = now + kLeftOutFor;
  }
  return absl::OkStatus();
}

absl::Status ServerTable::read(const std::string& name, const FetchQueue::Work& work, ChunkRun run, fabric::LocalSpan target,
                               fabric::Tag tag, Instant now) {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return absl::UnavailableError(str_cat(name, " is not there"));
  Server& server = found->second;
  const auto held = server.held.find(work.block.ref.id);
  if (held == server.held.end() || now >= held->second.expires) return absl::UnavailableError(str_cat("the grant of ", name, " ended"));
  if (held->second.size_bytes != work.block.ref.size_bytes) {
    server.held.erase(held);
    server.missing_until[work.block.ref.id] = now + kMissingFor;
    return absl::UnavailableError(str_cat(name, " holds block ", work.block.ref.id.short_hex(), " in another size"));
  }
  if (server.endpoint == nullptr) {
    auto endpoint = transport_.connect({.provider = server.info.fabric_provider, .bytes = server.info.fabric_address});
    if (!endpoint.ok()) return absl::UnavailableError(str_cat("connect to ", name, ": ", to_std(endpoint.status().message())));
    server.endpoint = *std::move(endpoint);
  }
  const fabric::RemoteSpan source{.region = held->second.region,
                                  .offset_bytes = held->second.offset_bytes + run.offset_bytes(),
                                  .size_bytes = target.size_bytes};
  CENOTE_RETURN_IF_ERROR(server.endpoint->read(source, target, tag, std::min(now + limits_.read_timeout, held->second.expires)));
  if (server.flying++ == 0) {
    server.heard_at = now;
    silence_.expect(now, name, beat());
  }
  return absl::OkStatus();
}

void ServerTable::fail(const std::string& name, Instant now) {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return;
  Server& server = found->second;
  server.endpoint.reset();
  server.flying = 0;
  end_probes(server);
  silence_.forget(name);
  server.held.clear();
  server.timed = 0;
  server.slow_until = {};
  server.backoff = std::clamp(server.backoff * 2, limits_.backoff_min, limits_.backoff_max);
  server.retry_at = now + server.backoff;
}

void ServerTable::succeeded(const std::string& name, std::optional<Duration> took, Instant now) {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return;
  Server& server = found->second;
  server.backoff = {};
  server.heard_at = now;
  silence_.heard(now, name);
  if (server.flying > 0 && --server.flying == 0) silence_.settle(name);
  if (took && limits_.slow_factor > 0) time(server, *took, now);
}

Instant ServerTable::known_until(const Server& server) { return server.timed_at + std::max(kSlowFor, server.mean * kSlowForReads); }

void ServerTable::time(Server& server, Duration took, Instant now) {
  if (known_until(server) <= now) server.timed = 0;
  server.timed_at = now;
  server.mean = ++server.timed == 1 ? took : server.mean + Duration{(took - server.mean).ns / std::min<int64_t>(server.timed, kTimedOver)};
  if (now < compare_at_) return;
  compare_at_ = now + kCompareEvery;
  compare(now);
}

// All: what is slow shows when another turns out to be quick.
void ServerTable::compare(Instant now) {
  const auto known = [&](const Server& one) { return one.timed >= kTimedMin && now < known_until(one); };
  double quickest = std::numeric_limits<double>::infinity();
  for (const auto& [name, one] : servers_) {
    if (known(one)) quickest = std::min(quickest, one.mean.seconds());
  }
  for (auto& [name, one] : servers_) {
    if (!known(one)) continue;
    const bool slow = one.mean > limits_.slow_floor && one.mean.seconds() > limits_.slow_factor * quickest;
    one.slow_until = slow ? known_until(one) : Instant{};
  }
}

std::vector<std::string> ServerTable::watch(Instant now, fabric::LocalSpan scratch) {
  if (now < silence_.next_deadline()) return {};
  for (auto& [name, server] : servers_) {
    if (server.flying > 0 && server.probe == 0 && now - server.heard_at >= beat()) probe(server, now, scratch);
  }
  return silence_.step(now);
}

// Whatever cannot be posted is no sign of life, and no other one either: the silence goes on.
void ServerTable::probe(Server& server, Instant now, fabric::LocalSpan scratch) {
  const auto held = std::find_if(server.held.begin(), server.held.end(), [&](const auto& entry) {
    return entry.second.size_bytes >= kProbeBytes && now + limits_.silence_max <= entry.second.expires;
  });
  if (held == server.held.end()) return;
  if (server.probe_endpoint != nullptr && server.probe_endpoint->broken()) server.probe_endpoint.reset();
  if (server.probe_endpoint == nullptr) {
    auto endpoint = transport_.connect({.provider = server.info.fabric_provider, .bytes = server.info.fabric_address});
    if (!endpoint.ok()) return;
    server.probe_endpoint = *std::move(endpoint);
  }
  scratch.size_bytes = kProbeBytes;
  const fabric::RemoteSpan source{.region = held->second.region, .offset_bytes = held->second.offset_bytes, .size_bytes = kProbeBytes};
  const fabric::Tag tag = ++next_probe_;
  if (!server.probe_endpoint->read(source, scratch, tag, now + limits_.read_timeout).ok()) return;
  server.probe = tag;
  probes_.emplace(tag, server.info.name);
}

bool ServerTable::probe_ended(const fabric::Completion& completion, Instant now) {
  if (completion.tag < kProbeTags) return false;
  const auto probe = probes_.extract(completion.tag);
  if (probe.empty()) return true;  // Of a server that failed meanwhile.
  Server& server = servers_.at(probe.mapped());
  server.probe = 0;
  if (completion.code != absl::StatusCode::kOk) {
    server.probe_endpoint.reset();
    return true;
  }
  server.heard_at = now;
  silence_.heard(now, probe.mapped());
  return true;
}

void ServerTable::end_probes(Server& server) {
  server.probe_endpoint.reset();
  if (server.probe != 0) probes_.erase(server.probe);
  server.probe = 0;
}

Instant ServerTable::next_watch() const { return silence_.next_deadline(); }

void ServerTable::clear() { servers_.clear(); }

Instant ServerTable::next_retry(Instant now) const {
  Instant next = Instant::infinite_future();
  for (const auto& [name, server] : servers_) {
    if (server.retry_at > now) next = std::min(next, server.retry_at);
    const Instant late = server.asked_at + limits_.silence_max + Duration{1};
    if (server.asking && late > now) next = std::min(next, late);
    for (const auto& [id, until] : server.missing_until) {
      if (until > now) next = std::min(next, until);
    }
  }
  return next;
}

}  // namespace cenote::load
