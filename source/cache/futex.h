// cache/futex.h - sleeping on a word in memory shared between processes (hence not FUTEX_PRIVATE_FLAG).
#pragma once

#include "base/clock.h"
#include "cache/format.h"

namespace cenote::cache {

// Returns when the word is not `seen` any more, somebody woke it, a signal came, or at most `at_most` has passed. The word may lie in
// read-only memory.
void futex_wait(const Word& word, uint32_t seen, Duration at_most);

// Everyone who sleeps on it.
void futex_wake_all(Word& word);

}  // namespace cenote::cache
