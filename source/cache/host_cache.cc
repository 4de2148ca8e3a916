#include "cache/host_cache.h"

#include <algorithm>
#include <sys/mman.h>

#include "base/status.h"
#include "cache/futex.h"

namespace cenote::cache {

void HostCache::reset(uint32_t word) {
  CENOTE_CHECK(word < word_count_);
  const uint32_t generation = (words_[word].load(std::memory_order_relaxed) >> kGenerationShift) + 1;
  words_[word].store((generation << kGenerationShift) | kLiveBit, std::memory_order_release);
}

void HostCache::retire(uint32_t word) {
  CENOTE_CHECK(word < word_count_);
  words_[word].fetch_and(kGenerationMask, std::memory_order_acq_rel);
  wake(word);
}

bool HostCache::publish(uint32_t word, uint32_t mask, uint32_t all) {
  CENOTE_CHECK(word < word_count_ && (mask & ~all) == 0 && all <= kChunkBits);
  const uint32_t before = words_[word].fetch_or(mask, std::memory_order_release);
  CENOTE_CHECK(before & kLiveBit);
  // Either the reader sees the bits before it sleeps, or we see its count: both sides have a full fence in between.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Waiters::Stripe& stripe = waiters_->stripes[word % Waiters::kStripes];
  const bool whole = ((before | mask) & all) == all;
  if (stripe.any.load(std::memory_order_relaxed) == 0 && !(whole && stripe.whole.load(std::memory_order_relaxed) != 0)) {
    return false;
  }
  futex_wake_all(words_[word]);
  return true;
}

void HostCache::wake(uint32_t word) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const Waiters::Stripe& stripe = waiters_->stripes[word % Waiters::kStripes];
  if (stripe.any.load(std::memory_order_relaxed) + stripe.whole.load(std::memory_order_relaxed) != 0) futex_wake_all(words_[word]);
}

void HostCache::set_failed(uint32_t word) {
  CENOTE_CHECK(word < word_count_);
  words_[word].fetch_or(kFailedBit, std::memory_order_acq_rel);
  wake(word);
}

void HostCache::clear_failed(uint32_t word) {
  CENOTE_CHECK(word < word_count_);
  words_[word].fetch_and(~kFailedBit, std::memory_order_acq_rel);
}

uint32_t HostCache::chunks(uint32_t word) const {
  CENOTE_CHECK(word < word_count_);
  return words_[word].load(std::memory_order_acquire) & kChunkBits;
}

void HostCache::populate(uint64_t begin, uint64_t end) {
  begin = round_up(begin, kBlockAlignBytes);
  end = std::min(end, data_bytes_) / kBlockAlignBytes * kBlockAlignBytes;
#ifdef MADV_POPULATE_WRITE
  if (begin < end) madvise(data_.data() + begin, end - begin, MADV_POPULATE_WRITE);
#endif
}

}  // namespace cenote::cache
