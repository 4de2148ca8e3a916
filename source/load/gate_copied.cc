#include "load/gate_copied.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace cenote::load {
namespace {

// Between looks at wanted rows and at the end, while a group has not arrived.
constexpr Duration kSlice = Duration::from_ms(5);
// A stream copies in order, so what is queued delays rows that somebody waits for: enough to keep it busy, no more.
constexpr size_t kCopiesAhead = 4;

}  // namespace

CopiedGate::CopiedGate(const Digest& revision, cache::CacheView& view, const cache::Mapping& mapping,
                       std::span<const BlockEntry> blocks, std::vector<CacheExtent> extents, std::vector<Group> groups,
                       device::DeviceSpan target, std::unique_ptr<device::Stream> stream, WantCallback want)
    : revision_(revision),
      view_(view),
      mapping_(mapping),
      blocks_(blocks),
      extents_(std::move(extents)),
      groups_(std::move(groups)),
      target_(target),
      want_(std::move(want)),
      stream_(std::move(stream)),
      queued_(blocks.size()),
      copied_(blocks.size()) {
  copier_ = std::thread([this] { copy(); });
}

CopiedGate::~CopiedGate() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  copier_.join();  // No deadline: it looks for the end at least ten times a second.
}

absl::Status CopiedGate::wait(device::ByteRange range, Instant deadline) {
  if (complete() || range.begin >= range.end) return absl::OkStatus();
  return wait_chunks(chunks_of_bytes(blocks_, range.begin, range.end), deadline);
}

absl::Status CopiedGate::wait_rows(device::ByteRange table, uint64_t row_bytes, std::span<const int64_t> rows, Instant deadline) {
  if (complete()) return absl::OkStatus();
  CENOTE_ASSIGN_OR_RETURN(auto chunks, chunks_of_rows(blocks_, table.begin, table.end, row_bytes, rows));
  std::vector<WantedChunks> absent;  // From the cache too.
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(chunks, [&](const WantedChunks& some) { return (copied_[some.block] & some.chunks) == some.chunks; });
    wanted_.insert(wanted_.end(), chunks.begin(), chunks.end());
  }
  if (chunks.empty()) return absl::OkStatus();
  for (const WantedChunks& some : chunks) {
    if ((view_.word(extents_[some.block].word) & some.chunks) != some.chunks) absent.push_back(some);
  }
  if (want_ && !absent.empty()) want_({.revision = revision_, .chunks = std::move(absent)});
  return wait_chunks(chunks, deadline);
}

absl::Status CopiedGate::wait_chunks(std::span<const WantedChunks> chunks, Instant deadline) {
  std::unique_lock lock(mutex_);
  for (const WantedChunks& some : chunks) {
    while ((copied_[some.block] & some.chunks) != some.chunks) {
      if (!failure_.ok()) return failure_;
      const Duration left = deadline - monotonic_now();
      if (left.ns <= 0) {
        return absl::DeadlineExceededError(str_cat("block ", some.block, " was not on the device by the deadline"));
      }
      changed_.wait_for(lock, std::chrono::nanoseconds(std::min(left.ns, Duration::from_seconds(60).ns)));
    }
  }
  return absl::OkStatus();
}

void CopiedGate::copy() {
  for (size_t group = 0; group < groups_.size(); ++group) {
    while (!copy_group(group)) {
      if (!copy_wanted()) return;
    }
    if (!copy_wanted()) return;
  }
  while (!copies_.empty()) {
    collect(true);
    const std::lock_guard lock(mutex_);
    if (stop_) return;
  }
  const std::lock_guard lock(mutex_);
  if (first_.ns != 0) stats_.elapsed = monotonic_now() - first_;
  complete_.store(true, std::memory_order_release);
  changed_.notify_all();
}

// Chunks that somebody waits for and that are in the cache. False: stop.
bool CopiedGate::copy_wanted() {
  std::vector<WantedChunks> wanted;
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return false;
    wanted.swap(wanted_);
  }
  std::vector<WantedChunks> later;
  for (const WantedChunks& some : wanted) {
    const uint32_t there = view_.word(extents_[some.block].word) & some.chunks;
    if (!queue_copy(some.block, there)) return false;
    if (there != some.chunks) later.push_back({some.block, some.chunks & ~there});
  }
  collect(false);
  const std::lock_guard lock(mutex_);
  wanted_.insert(wanted_.end(), later.begin(), later.end());
  return !stop_;
}

// Queues the group if it has arrived; else waits a little for it. True: queued.
bool CopiedGate::copy_group(size_t group) {
  if (copies_.size() >= kCopiesAhead) {
    collect(true);
    return false;
  }
  for (uint32_t i = groups_[group].last; i > groups_[group].first; --i) {
    const CacheExtent& extent = extents_[i - 1];
    if (view_.arrived(extent)) continue;
    const absl::Status status = view_.wait(extent, all_chunks(extent.size_bytes), monotonic_now() + kSlice);
    const bool late = status.code() == absl::StatusCode::kDeadlineExceeded;
    {
      const std::lock_guard lock(mutex_);
      failure_ = late ? absl::OkStatus() : status;
      if (!failure_.ok()) changed_.notify_all();
    }
    if (!status.ok()) {
      // A failure may heal when the agent tries again; it ends at once when it does, so look again soon.
      if (!late) std::this_thread::sleep_for(std::chrono::nanoseconds(kSlice.ns));
      collect(false);
      return false;
    }
  }
  for (uint32_t i = groups_[group].first; i < groups_[group].last; ++i) {
    if (!queue_copy(i, all_chunks(extents_[i].size_bytes))) return true;  // Stopping; copy_wanted() says so.
  }
  return true;
}

bool CopiedGate::queue_copy(uint32_t block, uint32_t chunks) {
  uint32_t open = chunks & ~queued_[block];
  while (const auto run = next_read(open, 0, kBlockBytesMax)) {
    const uint64_t size = run->size_bytes(extents_[block].size_bytes);
    const uint64_t offset = blocks_[block].offset_bytes + run->offset_bytes();
    CENOTE_CHECK(offset + size <= target_.size_bytes);
    const device::DeviceSpan target{static_cast<device::DeviceAddress>(static_cast<uint64_t>(target_.address) + offset), size};
    if (first_.ns == 0) first_ = monotonic_now();
    while (stream_->copy_in(target, mapping_.bytes().subspan(offset, size), next_tag_).code() ==
           absl::StatusCode::kResourceExhausted) {
      collect(true);
      const std::lock_guard lock(mutex_);
      if (stop_) return false;
    }
    copies_.emplace(next_tag_++, std::pair(block, run->mask()));
    open &= ~run->mask();
    queued_[block] |= run->mask();
    collect(false);
  }
  return true;
}

void CopiedGate::collect(bool block) {
  if (block && !copies_.empty()) stream_->wait(monotonic_now() + Duration::from_ms(100));
  std::array<uint64_t, 64> tags;
  const size_t count = stream_->poll(tags);
  if (count == 0) return;
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < count; ++i) {
    const auto copy = copies_.find(tags[i]);
    const auto [index, chunks] = copy->second;
    copies_.erase(copy);
    copied_[index] |= chunks;
    for (uint32_t c = 0; c < kChunksPerBlockMax; ++c) {
      if (chunks >> c & 1) stats_.bytes += ChunkRun{c, 1}.size_bytes(extents_[index].size_bytes);
    }
  }
  stats_.elapsed = monotonic_now() - first_;
  changed_.notify_all();
}

absl::Status CopiedGate::wait_complete(Instant deadline) {
  std::unique_lock lock(mutex_);
  while (!complete()) {
    if (!failure_.ok()) return failure_;
    const Duration left = deadline - monotonic_now();
    if (left.ns <= 0) return absl::DeadlineExceededError("the weights were not on the device by the deadline");
    changed_.wait_for(lock, std::chrono::nanoseconds(std::min(left.ns, Duration::from_seconds(60).ns)));
  }
  return absl::OkStatus();
}

CopyStats CopiedGate::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace cenote::load
