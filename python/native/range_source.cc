#include "range_source.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/hash.h"
#include "base/status.h"

namespace cenote::native {

absl::StatusOr<RangeSource> RangeSource::make(uint64_t size_bytes, std::vector<Piece> pieces) {
  std::erase_if(pieces, [](const Piece& piece) { return piece.bytes.empty(); });
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.offset_bytes < b.offset_bytes; });
  uint64_t end = 0;
  for (const Piece& piece : pieces) {
    if (piece.offset_bytes < end) {
      return absl::InvalidArgumentError(str_cat("pieces overlap at offset ", piece.offset_bytes));
    }
    if (piece.offset_bytes > size_bytes || piece.bytes.size() > size_bytes - piece.offset_bytes) {
      return absl::InvalidArgumentError(str_cat("a piece of ", piece.bytes.size(), " bytes at ", piece.offset_bytes,
                                                " reaches beyond the object's ", size_bytes, " bytes"));
    }
    end = piece.offset_bytes + piece.bytes.size();
  }
  RangeSource source;
  source.size_bytes_ = size_bytes;
  source.pieces_ = std::move(pieces);
  return source;
}

void RangeSource::read(uint64_t offset_bytes, std::span<std::byte> target) const {
  CENOTE_CHECK(offset_bytes <= size_bytes_ && target.size() <= size_bytes_ - offset_bytes);
  const uint64_t end = offset_bytes + target.size();
  uint64_t at = offset_bytes;
  auto next = std::upper_bound(pieces_.begin(), pieces_.end(), offset_bytes,
                               [](uint64_t offset, const Piece& piece) { return offset < piece.offset_bytes; });
  if (next != pieces_.begin()) --next;
  for (; next != pieces_.end() && next->offset_bytes < end; ++next) {
    const uint64_t piece_end = next->offset_bytes + next->bytes.size();
    if (piece_end <= at) continue;
    if (next->offset_bytes > at) {
      std::memset(target.data() + (at - offset_bytes), 0, next->offset_bytes - at);
      at = next->offset_bytes;
    }
    const uint64_t take = std::min(piece_end, end) - at;
    std::memcpy(target.data() + (at - offset_bytes), next->bytes.data() + (at - next->offset_bytes), take);
    at += take;
  }
  std::memset(target.data() + (at - offset_bytes), 0, end - at);
}

absl::StatusOr<std::vector<BlockEntry>> hash_blocks(const RangeSource& source, std::span<const BlockSpan> blocks, int threads,
                                                    const Progress& progress) {
  for (const BlockSpan& block : blocks) {
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || block.offset_bytes > source.size_bytes() ||
        block.size_bytes > source.size_bytes() - block.offset_bytes) {
      return absl::InvalidArgumentError(str_cat("block of ", block.size_bytes, " bytes at ", block.offset_bytes,
                                                " does not fit an object of ", source.size_bytes(), " bytes"));
    }
  }
  std::vector<BlockEntry> entries(blocks.size());
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable finished;
  size_t running = 0;
  const auto work = [&] {
    std::vector<std::byte> bytes;
    for (size_t i = next++; i < blocks.size() && !stop; i = next++) {
      bytes.resize(blocks[i].size_bytes);
      source.read(blocks[i].offset_bytes, bytes);
      entries[i] = {.ref = {sha256(bytes), static_cast<uint32_t>(blocks[i].size_bytes)},
                    .offset_bytes = blocks[i].offset_bytes,
                    .chunk_sums = chunk_sums(bytes)};
      done_bytes += blocks[i].size_bytes;
    }
    const std::lock_guard lock(mutex);
    --running;
    finished.notify_one();
  };
  const size_t cores = std::max<size_t>(1, std::thread::hardware_concurrency());
  const size_t count = std::clamp<size_t>(threads > 0 ? threads : cores, 1, std::max<size_t>(1, blocks.size()));
  running = count;
  std::vector<std::jthread> workers;
  for (size_t i = 0; i < count; ++i) workers.emplace_back(work);
  {
    std::unique_lock lock(mutex);
    while (!finished.wait_for(lock, std::chrono::milliseconds(50), [&] { return running == 0; })) {
      lock.unlock();
      if (progress && !progress(done_bytes)) stop = true;
      lock.lock();
    }
  }
  workers.clear();
  if (stop) return absl::CancelledError("hashing was interrupted");
  if (progress && !progress(done_bytes)) return absl::CancelledError("hashing was interrupted");
  return entries;
}

}  // namespace cenote::native
