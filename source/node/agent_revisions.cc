// A revision's way through the agent: acquired, placed, fetched, answered, held, let go.
#include <algorithm>

#include "base/status.h"
#include "base/units.h"
#include "node/agent.h"
#include "policy/evict.h"

namespace cenote::node {

using namespace agent;  // NOLINT

namespace {

constexpr size_t kPendingMax = 256;

bool any_urgent(const auto& pending) {
  return std::any_of(pending.begin(), pending.end(), [](const auto& p) { return p.urgent; });
}

}  // namespace

std::vector<BlockRef> Agent::all_blocks(const RevisionRecord& record) const {
  std::vector<BlockRef> refs = record.manifest_blocks;
  refs.insert(refs.end(), record.blocks.begin(), record.blocks.end());
  return refs;
}

std::vector<CacheExtent> Agent::extents(std::span<const BlockRef> refs) const {
  std::vector<CacheExtent> extents;
  extents.reserve(refs.size());
  for (const BlockRef& ref : refs) {
    const CacheIndex::Slot* slot = index_.find(ref.id);
    CENOTE_CHECK(slot != nullptr && slot->pins > 0);
    extents.push_back(slot->extent);
  }
  return extents;
}

bool Agent::whole(std::span<const BlockRef> refs) const {
  return std::all_of(refs.begin(), refs.end(), [&](const BlockRef& ref) {
    const CacheIndex::Slot* slot = index_.find(ref.id);
    return slot != nullptr && slot->whole;
  });
}

void Agent::on_acquire(StreamId stream, const Acquire& acquire) {
  const Pending pending{.stream = stream, .ticket = acquire.ticket, .urgent = acquire.urgent, .since = now_};
  const auto found = revisions_.find(acquire.revision);
  const bool known = found != revisions_.end() && found->second.deployed;
  if (!known && unknown_.size() >= kPendingMax && !unknown_.contains(acquire.revision)) {
    tell(stream, Acquired{.ticket = acquire.ticket, .status = absl::ResourceExhaustedError(str_cat(
                                                        unknown_.size(), " unknown revisions are waited for, the limit"))});
    return;
  }
  if (known && !acquire.urgent && !found->second.holders.contains(stream) && !prefetches(stream, acquire.revision)) {
    // Asked for before the executor heard that it is not to be prefetched any more.
    tell(stream, Acquired{.ticket = acquire.ticket,
                          .status = absl::CancelledError(str_cat(found->second.record.name, " is not to be prefetched"))});
    return;
  }
  std::vector<Pending>& waiting = known ? found->second.pending : unknown_[acquire.revision];
  if (waiting.size() >= kPendingMax) {
    tell(stream, Acquired{.ticket = acquire.ticket, .status = absl::ResourceExhaustedError(str_cat(
                                                        waiting.size(), " acquires of this revision wait, the limit"))});
    return;
  }
  waiting.push_back(pending);
  if (!known) return;
  Revision& revision = found->second;
  revision.last_use = now_;
  revision.tries = 0;  // Somebody wants it now: try at once.
  revision.retry_at.reset();
  if (acquire.urgent && revision.job != 0 && !revision.job_urgent) {
    revision.job_urgent = true;
    actions_->push_back(PromoteFetch{revision.job});
  }
  advance(revision);
}

void Agent::on_want(const Want& want) {
  const auto found = revisions_.find(want.revision);
  if (found == revisions_.end() || found->second.phase != Phase::kReady) return;
  for (const WantedChunks& some : want.chunks) {
    if (some.block >= found->second.record.blocks.size()) continue;
    actions_->push_back(WantBlock{found->second.record.blocks[some.block].id, some.chunks});
  }
}

void Agent::on_release(StreamId stream, const Digest& digest) {
  const auto found = revisions_.find(digest);
  if (found == revisions_.end() || found->second.holders.erase(stream) == 0) return;
  found->second.last_use = now_;
  settle(found->second);
}

void Agent::drop_stream(StreamId stream) {
  const auto of_stream = [&](const Pending& pending) { return pending.stream == stream; };
  for (auto& [digest, pending] : unknown_) std::erase_if(pending, of_stream);
  std::erase_if(unknown_, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [digest, revision] : revisions_) {
    const size_t before = revision.holders.size() + revision.pending.size();
    revision.holders.erase(stream);
    std::erase_if(revision.pending, of_stream);
    if (revision.holders.size() + revision.pending.size() != before) settle(revision);
  }
}

// As far as it goes at the moment.
void Agent::advance(Revision& revision) {
  if (!revision.wanted() || revision.job_cancelled || (revision.evicting && revision.holders.empty() && revision.placed)) return;
  if (revision.evicting && !revision.holders.empty()) return;  // First out, then in again.
  if (revision.retry_at && now_ < *revision.retry_at) return;
  revision.retry_at.reset();
  if (!revision.placed && !place(revision)) return;
  const RevisionRecord& record = revision.record;
  if (revision.phase == Phase::kChecking) return;
  if (revision.phase != Phase::kReady) {
    if (!whole(record.manifest_blocks)) {
      if (revision.job != 0) return;
      std::vector<BlockEntry> blocks;  // Without sums: checked whole.
      for (const BlockRef& ref : record.manifest_blocks) blocks.push_back({.ref = ref});
      revision.phase = Phase::kManifest;
      fetch(revision, blocks, true);
      return;
    }
    if (revision.blocks.empty()) {
      revision.phase = Phase::kChecking;
      const bool hashed = record.manifest_blocks.size() == 1 && record.manifest_blocks.front().id == record.digest;
      actions_->push_back(CheckManifest{record.digest, record.manifest_bytes, extents(record.manifest_blocks), hashed});
      return;
    }
    revision.phase = Phase::kReady;
  }
  if (revision.job == 0 && !whole(record.blocks)) fetch(revision, revision.blocks, false);
  answer(revision);
}

bool Agent::place(Revision& revision) {
  CacheIndex::Change change;
  uint64_t shortage = 0;
  const absl::Status status = index_.place(all_blocks(revision.record), now_, change, &shortage);
  apply(change);
  if (status.ok()) {
    revision.placed = true;
    revision.phase = Phase::kIdle;
    return true;
  }
  const bool never = shortage == 0;
  const absl::Status named = annotate(never ? absl::OutOfRangeError(status.message()) : status, revision.record.name);
  refuse(revision, named, never);  // Urgent ones wait for room, if that can help.
  if (!revision.pending.empty()) make_room(revision, shortage);
  return false;
}

// Asks holders of the least recently used revisions to let go.
void Agent::make_room(const Revision& revision, uint64_t shortage_bytes) {
  std::vector<policy::EvictionCandidate> candidates;
  std::vector<Revision*> held;
  uint64_t coming = 0;
  for (auto& [digest, other] : revisions_) {
    if (!other.placed || &other == &revision || other.holders.empty() || !other.pending.empty()) continue;
    uint64_t bytes = 0;
    for (const BlockRef& ref : all_blocks(other.record)) bytes += round_up(ref.size_bytes, kBlockAlignBytes);
    if (other.releasing || other.evicting) {
      coming += bytes;
      continue;
    }
    candidates.push_back({.size_bytes = bytes, .last_use = other.last_use});
    held.push_back(&other);
  }
  if (coming >= shortage_bytes) return;
  // Blocks shared with others may free less than this counts; then room_changed_ brings us here again.
  const auto victims = policy::choose_victims(candidates, shortage_bytes - coming);
  std::vector<size_t> all;
  for (size_t i = 0; i < candidates.size(); ++i) all.push_back(i);
  for (const size_t victim : victims ? *victims : all) {
    held[victim]->releasing = true;
    for (const StreamId stream : held[victim]->holders) tell(stream, EvictRevision{held[victim]->record.digest});
  }
}

bool Agent::fetch(Revision& revision, std::span<const BlockEntry> blocks, bool ahead) {
  FetchJob job{.id = next_job_++, .revision = revision.record.digest, .urgent = any_urgent(revision.pending)};
  const auto add = [&](const BlockRef& ref, const std::vector<uint64_t>& sums, std::vector<FetchBlock>& to) {
    const CacheIndex::Slot* slot = index_.find(ref.id);
    CENOTE_CHECK(slot != nullptr && slot->pins > 0);
    if (slot->whole) return;
    const auto replicas = replicas_.find(ref.id);
    to.push_back({.ref = ref,
                  .extent = slot->extent,
                  .chunk_sums = sums,
                  .replicas = replicas == replicas_.end() ? std::vector<std::string>{} : replicas->second,
                  .kept = slot->kept});
  };
  for (const BlockEntry& block : blocks) add(block.ref, block.chunk_sums, job.blocks);
  if (ahead) {
    for (const BlockRef& ref : revision.record.blocks) add(ref, {}, job.grant_ahead);
  }
  revision.job = job.id;
  revision.job_urgent = job.urgent;
  ++revision.tries;
  actions_->push_back(StartFetch{std::move(job)});
  return true;
}

void Agent::answer(Revision& revision) {
  uint64_t cached = 0;
  for (const BlockRef& ref : revision.record.blocks) {
    const CacheIndex::Slot* slot = index_.find(ref.id);
    if (slot->whole || slot->kept) cached += ref.size_bytes;
  }
  if (!revision.pending.empty()) revision.releasing = false;  // It is in use again: others must be asked instead.
  for (const Pending& pending : std::exchange(revision.pending, {})) {
    revision.holders.insert(pending.stream);
    tell(pending.stream, Acquired{.ticket = pending.ticket,
                                  .manifest_bytes = revision.record.manifest_bytes,
                                  .manifest = extents(revision.record.manifest_blocks),
                                  .weights = extents(revision.record.blocks),
                                  .cached_bytes = cached});
  }
}

void Agent::refuse(Revision& revision, const absl::Status& status, bool urgent_too) {
  std::vector<Pending> kept;
  for (const Pending& pending : std::exchange(revision.pending, {})) {
    if (pending.urgent && !urgent_too) {
      kept.push_back(pending);
      continue;
    }
    tell(pending.stream, Acquired{.ticket = pending.ticket, .status = status});
  }
  revision.pending = std::move(kept);
}

void Agent::on(ManifestChecked& event) {
  const auto found = revisions_.find(event.revision);
  if (found == revisions_.end() || found->second.phase != Phase::kChecking) return;
  Revision& revision = found->second;
  revision.phase = Phase::kIdle;
  absl::Status status = event.blocks.status();
  if (status.ok()) {
    bool same = event.blocks->size() == revision.record.blocks.size();
    for (size_t i = 0; same && i < event.blocks->size(); ++i) same = (*event.blocks)[i].ref == revision.record.blocks[i];
    if (!same) status = absl::DataLossError("its manifest lists other blocks than the catalogue");
  }
  if (status.ok()) {
    revision.blocks = *std::move(event.blocks);
    advance(revision);
  } else {
    refuse(revision, annotate(status, revision.record.name), true);
  }
  settle(revision);
}

void Agent::on(FetchEnded& event) {
  FetchResult& result = event.result;
  const auto found = std::find_if(revisions_.begin(), revisions_.end(), [&](const auto& entry) { return entry.second.job == result.job; });
  if (result.job == 0 || found == revisions_.end()) return;
  Revision& revision = found->second;
  const bool manifest = revision.phase == Phase::kManifest;
  const std::set<Digest> missing(result.missing.begin(), result.missing.end());
  // A job names every block that was not whole when it began; those it does not miss are.
  for (const BlockRef& ref : manifest ? revision.record.manifest_blocks : revision.record.blocks) {
    if (!missing.contains(ref.id)) index_.set_whole(ref.id);
  }
  revision.job = 0;
  if (manifest) revision.phase = Phase::kIdle;
  const bool cancelled = std::exchange(revision.job_cancelled, false);
  if (result.status.ok()) revision.tries = 0;
  if (!result.status.ok() && !cancelled && revision.wanted() && result.status.code() == absl::StatusCode::kUnavailable &&
      revision.tries < options_.tries_max) {
    revision.retry_at = now_ + options_.retry_min * (int64_t{1} << std::min(revision.tries, 10u));
  } else if (!result.status.ok() && !cancelled) {
    const absl::Status named = annotate(result.status, revision.record.name);
    refuse(revision, named, true);
    for (const StreamId stream : revision.holders) {
      tell(stream, FetchDone{revision.record.digest, named, result.network, result.verify, result.bytes, result.refetched});
    }
  } else if (result.status.ok() && !manifest) {
    for (const StreamId stream : revision.holders) {
      tell(stream, FetchDone{revision.record.digest, {}, result.network, result.verify, result.bytes, result.refetched});
    }
  }
  const bool failed = !result.status.ok() && !cancelled && !revision.retry_at;
  if (!failed) advance(revision);
  settle(revision);
}

// When nobody wants it any more: stop fetching, unpin, leave if asked to.
void Agent::settle(Revision& revision) {
  if (revision.wanted() && !(revision.evicting && revision.holders.empty())) return;
  revision.releasing = false;
  if (revision.job != 0) {
    if (!revision.job_cancelled) actions_->push_back(CancelFetch{revision.job});
    revision.job_cancelled = true;
    return;  // Its extents are written to until FetchEnded.
  }
  if (revision.phase == Phase::kChecking) return;  // Its manifest is being read.
  revision.phase = Phase::kIdle;
  revision.retry_at.reset();
  if (revision.placed) {
    index_.unpin(all_blocks(revision.record), now_);
    revision.placed = false;
    room_changed_ = true;
  }
  if (revision.evicting) {
    CacheIndex::Change change;
    index_.erase(all_blocks(revision.record), change);
    apply(change);
    revision.evicting = false;
    room_changed_ = true;
  }
}

void Agent::apply(const CacheIndex::Change& change) {
  for (const uint32_t word : change.retired) actions_->push_back(RetireWord{word});
  for (const uint32_t word : change.emptied) actions_->push_back(ResetWord{word});
}

void Agent::expire() {
  for (auto unknown = unknown_.begin(); unknown != unknown_.end();) {
    std::erase_if(unknown->second, [&](const Pending& pending) {
      if (now_ - pending.since < options_.unknown_timeout) return false;
      tell(pending.stream, Acquired{.ticket = pending.ticket,
                                    .status = absl::NotFoundError(str_cat("revision ", unknown->first.short_hex(),
                                                                          " is not among those deployed for this host"))});
      return true;
    });
    unknown = unknown->second.empty() ? unknown_.erase(unknown) : std::next(unknown);
  }
  for (auto& [digest, revision] : revisions_) {
    if (!revision.placed && !revision.pending.empty() && now_ - revision.pending.front().since >= options_.acquire_timeout) {
      refuse(revision,
             absl::ResourceExhaustedError(str_cat(revision.record.name, ": no room in the cache came free within ",
                                                  options_.acquire_timeout.us() / 1'000'000, " s; raise agent.cache_capacity")),
             true);
    }
    if (revision.retry_at && now_ >= *revision.retry_at) {
      revision.retry_at.reset();  // What holds it up now goes on by an event: asking again at once would spin.
      advance(revision);
    }
  }
}

Instant Agent::next_step(Instant now) const {
  Instant next = Instant::infinite_future();
  const auto at = [&](Instant due) { next = std::min(next, std::max(due, now)); };
  at(silence_.next_deadline());
  at(beat_at_);
  for (const auto& [digest, pending] : unknown_) {
    for (const Pending& one : pending) at(one.since + options_.unknown_timeout);
  }
  for (const auto& [digest, revision] : revisions_) {
    if (revision.retry_at) at(*revision.retry_at);
    if (!revision.placed && !revision.pending.empty()) at(revision.pending.front().since + options_.acquire_timeout);
  }
  for (const Executor& executor : executors_) {
    if (executor.spawn_at) at(*executor.spawn_at);
    if (executor.pid == 0 || executor.killing) continue;
    at(executor.stream != 0 ? executor.heard_at + options_.silence_max : executor.spawned_at + options_.start_timeout);
  }
  return next;
}

}  // namespace cenote::node
