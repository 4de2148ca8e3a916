#include "load/server_table.h"

#include <algorithm>
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
  return ready ? Availability::kReady : Availability::kPending;
}

bool ServerTable::fresh(const std::string& name, const Digest& block, Instant now) const {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return false;
  const auto held = found->second.held.find(block);
  return held != found->second.held.end() && now < held->second.renew_at;
}

bool ServerTable::may_ask(const std::string& name, Instant now) const {
  const auto found = servers_.find(name);
  return found != servers_.end() && !found->second.asking && now >= found->second.retry_at;
}

void ServerTable::asked(const std::string& name, std::vector<Digest> blocks) {
  Server& server = servers_.at(name);
  server.asking = true;
  server.asked = std::move(blocks);
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
  return server.endpoint->read(source, target, tag, std::min(now + limits_.read_timeout, held->second.expires));
}

void ServerTable::fail(const std::string& name, Instant now) {
  const auto found = servers_.find(name);
  if (found == servers_.end()) return;
  Server& server = found->second;
  server.endpoint.reset();
  server.held.clear();
  server.backoff = std::clamp(server.backoff * 2, limits_.backoff_min, limits_.backoff_max);
  server.retry_at = now + server.backoff;
}

void ServerTable::succeeded(const std::string& name) {
  const auto found = servers_.find(name);
  if (found != servers_.end()) found->second.backoff = {};
}

void ServerTable::clear() { servers_.clear(); }

Instant ServerTable::next_retry(Instant now) const {
  Instant next = Instant::infinite_future();
  for (const auto& [name, server] : servers_) {
    if (server.retry_at > now) next = std::min(next, server.retry_at);
    for (const auto& [id, until] : server.missing_until) {
      if (until > now) next = std::min(next, until);
    }
  }
  return next;
}

}  // namespace cenote::load
