#include "cache/futex.h"

#include <climits>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cenote::cache {

void futex_wait(const Word& word, uint32_t seen, Duration at_most) {
  if (at_most.ns <= 0) return;
  timespec timeout{at_most.ns / 1'000'000'000, at_most.ns % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void futex_wake_all(Word& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

}  // namespace cenote::cache
