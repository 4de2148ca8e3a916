#include "load/fetch_loop.h"

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"

namespace cenote::load {
namespace {

constexpr size_t kGrantBatchMax = 4096;

}  // namespace

Fetcher::Loop::Loop(fabric::Transport& transport, cache::HostCache& cache, const FetcherOptions& options,
                    const FetcherCallbacks& callbacks)
    : transport(transport),
      cache(cache),
      options(options),
      callbacks(callbacks),
      queue(options.limits),
      servers(transport, options.servers),
      pace(options.link_gb_per_s) {}

Fetcher::Loop::~Loop() { servers.clear(); }  // Endpoints end before the region and the transport.

absl::Status Fetcher::Loop::register_memory() {
  static_assert(sizeof scratch_ >= ServerTable::kProbeBytes);
  CENOTE_ASSIGN_OR_RETURN(scratch_region_, transport.register_memory(scratch_, fabric::Access::kLocal));
  CENOTE_ASSIGN_OR_RETURN(region, transport.register_memory(cache.data(), fabric::Access::kLocal));
  return absl::OkStatus();
}

bool Fetcher::Loop::step(Instant now) {
  servers.awake(now);
  post(now);
  const bool arrived = poll(now);
  if (arrived) {
    post(monotonic_now());  // Keep the link full while we check what came.
    for (const Landed& landed : landed_) check(landed);
    landed_.clear();
  }
  const bool checked = check_kept();
  const bool lost = watch(now);
  ask_grants(now);
  expire_at_ = queue.expire(now);
  report();
  return arrived || checked || lost;  // Its reads go elsewhere at once.
}

void Fetcher::Loop::post(Instant now) {
  if (now < deferred_until_) return;
  while (flying_.size() < options.reads_in_flight && pace.allows(now)) {
    const auto read = queue.next(servers, now, needed_);
    if (!read) return;
    const FetchBlock& block = read->work->block;
    const uint64_t size = read->run.size_bytes(block.ref.size_bytes);
    // Also asserted where the extent was made: a read never leaves its block.
    CENOTE_CHECK(read->run.offset_bytes() + size <= block.ref.size_bytes);
    const fabric::LocalSpan target{
        .region = region.get(), .offset_bytes = block.extent.offset_bytes + read->run.offset_bytes(), .size_bytes = size};
    const fabric::Tag tag = next_tag_++;
    const absl::Status status = servers.read(read->server, *read->work, read->run, target, tag, now);
    if (status.ok()) {
      ++stats.reads;
      pace.took(size, now);
      flying_.emplace(tag, Flying{*read, now});
      continue;
    }
    queue.failed(*read);
    if (status.code() == absl::StatusCode::kResourceExhausted) {
      deferred_until_ = now + Duration::from_ms(1);
      return;
    }
    ++stats.failed_reads;
    lose(read->server, now, to_std(status.message()));
  }
}

bool Fetcher::Loop::poll(Instant now) {
  std::array<fabric::Completion, 64> completions;
  const size_t count = transport.poll(completions);
  for (size_t i = 0; i < count; ++i) {
    if (servers.probe_ended(completions[i], now)) continue;
    const auto flying = flying_.find(completions[i].tag);
    if (flying == flying_.end()) continue;  // Of an endpoint that was closed meanwhile.
    const auto [read, posted_at] = flying->second;
    if (completions[i].code != absl::StatusCode::kOk) {
      ++stats.failed_reads;
      lose(read.server, now,
           completions[i].code == absl::StatusCode::kDeadlineExceeded ? "it was silent past the read's deadline" : "the read failed");
      continue;
    }
    flying_.erase(flying);
    const uint64_t size = read.run.size_bytes(read.work->block.ref.size_bytes);
    servers.succeeded(read.server, size == options.limits.read_bytes ? std::optional(now - posted_at) : std::nullopt, now);
    stats.fetched_bytes += size;
    ServerSeen& server = seen(read.server);
    ++server.reads;
    server.bytes += size;
    server.read_time = server.read_time + (now - posted_at);
    const uint32_t to_check = queue.arrived(read, monotonic_now());
    if (to_check != 0) landed_.push_back({read, to_check});
  }
  return count != 0;
}

ServerSeen& Fetcher::Loop::seen(const std::string& server) {
  ServerSeen& seen = stats.seen[server];
  seen.server = server;
  return seen;
}

uint32_t Fetcher::Loop::matching(const FetchBlock& block, uint32_t chunks) const {
  const auto bytes = std::span<const std::byte>(cache.data()).subspan(block.extent.offset_bytes, block.ref.size_bytes);
  if (block.chunk_sums.empty()) return sha256(bytes) == block.ref.id ? chunks : 0;
  uint32_t good = 0;
  for (uint32_t i = 0; i < block.chunk_sums.size(); ++i) {
    if (!(chunks >> i & 1)) continue;
    const uint64_t begin = i * kChunkBytes;
    const auto chunk = bytes.subspan(begin, std::min<uint64_t>(kChunkBytes, block.ref.size_bytes - begin));
    if (xxh3_64(chunk) == block.chunk_sums[i]) good |= 1u << i;
  }
  return good;
}

void Fetcher::Loop::check(const Landed& landed) {
  const FetchBlock& block = landed.read.work->block;
  if (landed.read.work->removed) return;  // Its job ended since; the slot may be another block's soon.
  const Instant begin = monotonic_now();
  const uint32_t good = matching(block, landed.check);
  const Duration verify = monotonic_now() - begin;
  if (good != 0) cache.publish(block.extent.word, good, landed.read.work->all());
  const uint32_t bad = landed.check & ~good;
  for (uint32_t i = 0; i < kChunksPerBlockMax; ++i) {
    if (!(bad >> i & 1)) continue;
    ++stats.corrupt_chunks;
    ++seen(landed.read.server).corrupt_chunks;
    LOG_WARNING("corrupt chunk: block {} chunk {} from {}; reading it again", block.ref.id.short_hex(), i, landed.read.server);
  }
  if (bad != 0) callbacks.on_doubt({.server = landed.read.server, .block = block.ref.id});
  queue.checked(landed.read, landed.check, good, verify);
}

bool Fetcher::Loop::check_kept() {
  const std::shared_ptr<FetchQueue::Work> work = queue.next_kept();
  if (work == nullptr) return false;
  const FetchBlock& block = work->block;
  const Instant begin = monotonic_now();
  const uint32_t kept = work->landed;
  const uint32_t good = matching(block, kept);
  if (good != 0) cache.publish(block.extent.word, good, work->all());
  if (const uint32_t bad = kept & ~good; bad != 0) {
    stats.corrupt_chunks += static_cast<uint64_t>(__builtin_popcount(bad));
    LOG_WARNING("corrupt chunks: {} of block {} changed in the cache while nobody used them; reading them anew", __builtin_popcount(bad),
                block.ref.id.short_hex());
  }
  queue.kept_checked(work, kept, good, monotonic_now() - begin);
  return true;
}

void Fetcher::Loop::lose(const std::string& server, Instant now, std::string_view why) {
  LOG_WARNING("memory server {} failed: {}; others are asked, it is tried again later", server, why);
  ++seen(server).failures;
  servers.fail(server, now);  // First: afterwards none of its reads can write.
  reopen_reads(server);
}

void Fetcher::Loop::reopen_reads(const std::string& server) {
  for (auto flying = flying_.begin(); flying != flying_.end();) {
    if (flying->second.read.server != server) {
      ++flying;
      continue;
    }
    const FetchQueue::Read read = flying->second.read;
    flying = flying_.erase(flying);
    queue.failed(read);
  }
}

void Fetcher::Loop::ask_grants(Instant now) {
  for (const std::string& server : std::exchange(needed_, {})) {
    if (!servers.may_ask(server, now)) continue;
    std::vector<Digest> blocks = queue.ungranted(server, servers, now, kGrantBatchMax);
    if (blocks.empty()) continue;
    servers.asked(server, blocks, now);
    callbacks.ask_grant(server, std::move(blocks));
  }
}

bool Fetcher::Loop::watch(Instant now) {
  const std::vector<std::string> silent = servers.watch(now, {.region = scratch_region_.get()});
  for (const std::string& server : silent) {
    ++stats.suspected;
    lose(server, now, str_cat("it is silent: no read and no probe was answered for ", options.servers.silence_max.ms(), " ms"));
  }
  stats.stalls = servers.stalls();
  return !silent.empty();
}

void Fetcher::Loop::mark_given_up() {
  for (const CacheExtent& extent : queue.take_given_up()) cache.set_failed(extent.word);
}

void Fetcher::Loop::report() {
  mark_given_up();
  for (FetchResult& result : queue.take_finished()) callbacks.on_done(std::move(result));
}

Instant Fetcher::Loop::next_due(Instant now) const {
  Instant due = now + Duration::from_seconds(10);
  if (queue.idle()) return due;
  due = std::min(due, servers.next_retry(now));
  if (deferred_until_ > now) due = std::min(due, deferred_until_);
  due = std::min(due, servers.next_watch());
  if (flying_.size() < options.reads_in_flight && !pace.allows(now)) due = std::min(due, pace.free_at());
  return std::min(due, expire_at_);
}

}  // namespace cenote::load
