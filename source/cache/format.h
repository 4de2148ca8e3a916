// cache/format.h - how the shared cache of a host is laid out. Version 1; executors of another version refuse it.
//
//   [0, 4 KiB)            Header
//   [4 KiB, 8 KiB)        Waiters: the only part that executors write
//   [words_offset, ...)   one 32-bit arrival word per block slot
//   [data_offset, ...)    blocks, 4 KiB granular; data_offset is a multiple of 2 MiB
//
// A word:  bits 0-15   chunk i of the block has arrived and matched its checksum
//          bit  16     failed: nobody fetches it any more; waiters give up
//          bit  17     live: the slot belongs to a block
//          bits 18-31  generation, raised each time the slot is given to another block
// The agent writes the bytes, then sets bits with release; readers load with acquire before they touch the bytes. Words are
// futexes (not private: they lie in shared memory). A reader counts itself in Waiters before it sleeps, so that the agent
// makes the system call only when somebody waits; a reader killed in its sleep leaves its count behind, which costs a
// system call per arrival and nothing else.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/ids.h"
#include "base/units.h"

namespace cenote::cache {

inline constexpr uint64_t kCacheMagic = 0x31454843414343ull;  // "CCACHE1"
inline constexpr uint32_t kCacheVersion = 1;
inline constexpr uint64_t kHugePageBytes = 2 * kMiB;
inline constexpr uint64_t kWaitersOffset = 4 * kKiB;
inline constexpr uint64_t kWordsOffset = 8 * kKiB;

inline constexpr uint32_t kChunkBits = 0xffff;
inline constexpr uint32_t kFailedBit = 1u << 16;
inline constexpr uint32_t kLiveBit = 1u << 17;
inline constexpr uint32_t kGenerationShift = 18;
inline constexpr uint32_t kGenerationMask = ~0u << kGenerationShift;

struct Header {
  uint64_t magic;
  uint32_t version;
  uint32_t word_count;
  uint64_t words_offset;
  uint64_t data_offset;
  uint64_t data_bytes;
  Incarnation incarnation;  // The agent's.
};
static_assert(sizeof(Header) == 48);

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);

// Counters are shared by all words of the same index modulo kStripes.
struct Waiters {
  static constexpr uint32_t kStripes = 512;
  struct Stripe {
    std::atomic<uint32_t> whole;  // Wait for all chunks of the block: woken when the last one is there.
    std::atomic<uint32_t> any;    // Wait for certain chunks: woken at each arrival.
  };
  Stripe stripes[kStripes];
};
static_assert(sizeof(Waiters) == 4 * kKiB);

constexpr uint64_t data_offset_of(uint32_t word_count) {
  return round_up(kWordsOffset + word_count * sizeof(Word), kHugePageBytes);
}

// A slot per 4 KiB would be wasteful and one per 4 MiB too few: models have small blocks between large ones. One per 32 KiB of
// cache, at least 1024; when they run out, blocks are evicted as if bytes had.
constexpr uint32_t word_count_of(uint64_t data_bytes) {
  const uint64_t count = data_bytes / (32 * kKiB);
  return static_cast<uint32_t>(count < 1024 ? 1024 : count > (1u << 28) ? (1u << 28) : count);
}

}  // namespace cenote::cache
