#include "simulate/fetch_side.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "simulate/memory_node.h"

namespace cenote::simulate {
namespace {

constexpr uint32_t kReadsInFlight = 4;
constexpr size_t kGrantBatchMax = 4096;

}  // namespace

FetchSide::FetchSide(Process& agent, std::shared_ptr<HostCache> cache, Duration read_timeout, std::function<void(FetchResult)> on_done)
    : agent_(agent), cache_(std::move(cache)), read_timeout_(read_timeout), on_done_(std::move(on_done)), transport_(agent, cache_->data),
      region_(*transport_.register_memory({}, fabric::Access::kLocal)), queue_({}), servers_(transport_, {.read_timeout = read_timeout}) {}

void FetchSide::set_servers(const std::vector<MemoryServerInfo>& servers) {
  known_.clear();
  for (const MemoryServerInfo& server : servers) known_.insert(server.name);
  for (const std::string& gone : servers_.set(servers)) reopen_reads(gone);
}

void FetchSide::add(FetchJob job) {
  mark_given_up();
  for (FetchBlock& block : job.blocks) {
    block.have = cache_->words[block.extent.word].chunks & load::all_chunks(block.ref.size_bytes);
    cache_->set_failed(block.extent.word, false);
  }
  queue_.add(std::move(job));
}

void FetchSide::step(Instant now) {
  while (true) {
    post(now);
    bool arrived = poll(now);
    for (; check_kept(); arrived = true) {}
    ask_grants(now);
    expire_at_ = queue_.expire(now);
    mark_given_up();
    for (FetchResult& result : queue_.take_finished()) on_done_(std::move(result));
    if (!arrived) return;
  }
}

Instant FetchSide::due(Instant now) const {
  if (transport_.ready()) return now;
  if (queue_.idle()) return Instant::infinite_future();
  Instant due = std::min(servers_.next_retry(now), expire_at_);
  if (deferred_until_ > now) due = std::min(due, deferred_until_);
  return due;
}

void FetchSide::post(Instant now) {
  if (now < deferred_until_) return;
  while (flying_.size() < kReadsInFlight) {
    const auto read = queue_.next(servers_, now, needed_);
    if (!read) return;
    const FetchBlock& block = read->work->block;
    const uint64_t size = read->run.size_bytes(block.ref.size_bytes);
    if (read->run.offset_bytes() + size > block.ref.size_bytes) agent_.world().fail("a read leaves its block");
    const fabric::LocalSpan target{.region = region_.get(), .offset_bytes = block.extent.offset_bytes + read->run.offset_bytes(), .size_bytes = size};
    const fabric::Tag tag = next_tag_++;
    const absl::Status status = servers_.read(read->server, *read->work, read->run, target, tag, now);
    if (status.ok()) {
      flying_.emplace(tag, Flying{*read, now});
      continue;
    }
    queue_.failed(*read);
    if (absl::IsResourceExhausted(status)) {
      deferred_until_ = now + Duration::from_ms(1);
      return;
    }
    lose(read->server, now, to_std(status.message()));
  }
}

bool FetchSide::poll(Instant now) {
  std::array<fabric::Completion, 64> completions;
  const size_t count = transport_.poll(completions);
  for (size_t i = 0; i < count; ++i) {
    const auto flying = flying_.find(completions[i].tag);
    if (flying == flying_.end()) continue;
    const auto [read, posted_at] = flying->second;
    if (completions[i].code != absl::StatusCode::kOk) {
      lose(read.server, now, "the read failed");
      continue;
    }
    flying_.erase(flying);
    servers_.succeeded(read.server, now - posted_at, now);
    if (const uint32_t to_check = queue_.arrived(read, now); to_check != 0) check(read, to_check);
  }
  return count != 0;
}

uint32_t FetchSide::matching(const FetchBlock& block, uint32_t chunks) const {
  if (block.chunk_sums.empty()) return cache_->data.holds(block.extent.offset_bytes, block.ref) ? chunks : 0;
  uint32_t good = 0;
  for (uint32_t i = 0; i < block.chunk_sums.size(); ++i) {
    if (!(chunks >> i & 1)) continue;
    const Chunk chunk = cache_->data.read(block.extent.offset_bytes + i * kChunkBytes, chunk_size(block.ref.size_bytes, i)).front();
    const bool right = !chunk.corrupt && !chunk.block.empty() && chunk_sum(chunk.block, chunk.index) == block.chunk_sums[i];
    // Nothing but a fault may bring other bytes: a grant in force names this block's.
    if (!right && !chunk.corrupt) {
      agent_.world().fail(str_cat(agent_.name(), " read chunk ", chunk.index, " of block ", chunk.block.short_hex(), " under a grant for chunk ", i, " of ", block.ref.id.short_hex()));
    }
    if (right) good |= 1u << i;
  }
  return good;
}

void FetchSide::check(const load::FetchQueue::Read& read, uint32_t chunks) {
  const FetchBlock& block = read.work->block;
  if (read.work->removed) return;
  const uint32_t good = matching(block, chunks);
  if (good != 0) {
    if (!cache_->words[block.extent.word].live) agent_.world().fail(str_cat(agent_.name(), " publishes chunks of a slot that belongs to no block"));
    cache_->publish(block.extent.word, good);
  }
  corrupt_chunks_ += static_cast<uint64_t>(__builtin_popcount(chunks & ~good));
  queue_.checked(read, chunks, good, Duration{});
}

bool FetchSide::check_kept() {
  const std::shared_ptr<load::FetchQueue::Work> work = queue_.next_kept();
  if (work == nullptr) return false;
  const FetchBlock& block = work->block;
  const uint32_t kept = work->landed;
  const uint32_t good = matching(block, kept);
  if (good != 0) {
    if (!cache_->words[block.extent.word].live) agent_.world().fail(str_cat(agent_.name(), " publishes kept chunks of a slot that belongs to no block"));
    cache_->publish(block.extent.word, good);
  }
  corrupt_chunks_ += static_cast<uint64_t>(__builtin_popcount(kept & ~good));
  queue_.kept_checked(work, kept, good, Duration{});
  return true;
}

void FetchSide::lose(const std::string& server, Instant now, std::string_view why) {
  agent_.world().say(agent_.name(), ": ", server, " failed: ", why);
  servers_.fail(server, now);
  reopen_reads(server);
}

void FetchSide::reopen_reads(const std::string& server) {
  for (auto flying = flying_.begin(); flying != flying_.end();) {
    if (flying->second.read.server != server) {
      ++flying;
      continue;
    }
    const load::FetchQueue::Read read = flying->second.read;
    flying = flying_.erase(flying);
    queue_.failed(read);
  }
}

void FetchSide::ask_grants(Instant now) {
  for (const std::string& server : std::exchange(needed_, {})) {
    if (!servers_.may_ask(server, now)) continue;
    std::vector<Digest> blocks = queue_.ungranted(server, servers_, now, kGrantBatchMax);
    if (blocks.empty()) continue;
    servers_.asked(server, blocks, now);
    using Result = absl::StatusOr<Grant>;
    const auto granted = [this, server, sent_at = now](const Result& grant) {
      const Instant came = agent_.world().now();
      const absl::Status status = servers_.granted(server, sent_at, grant, came);
      if (!status.ok()) lose(server, came, to_std(status.message()));
    };
    if (!known_.contains(server)) {
      granted(absl::UnavailableError("it is not among the live memory servers"));
      continue;
    }
    agent_.network().call<Result>(
        agent_, agent_.network().find(server), 64, read_timeout_,
        [blocks = std::move(blocks), sent_at = now](Process& taker, const Network::Answer<Result>& answer) {
          static_cast<MemoryNode&>(taker).grant(blocks, sent_at, answer);
        },
        granted);
  }
}

void FetchSide::mark_given_up() {
  for (const CacheExtent& extent : queue_.take_given_up()) cache_->set_failed(extent.word, true);
}

}  // namespace cenote::simulate
