// Goal: between real processes, whoever sees a chunk's bit sees its bytes, and a reader killed in its sleep disturbs nobody.
#include <csignal>
#include <sys/wait.h>
#include <thread>

#include "base/units.h"
#include "scratch_cache.h"

namespace cenote::cache {
namespace {

// The child reads block after block as the parent publishes them chunk by chunk; each chunk is filled with its own value.
TEST(CacheProcesses, another_process_never_sees_a_bit_before_its_bytes) {
  ScratchCache scratch;
  constexpr uint32_t kBlocks = 8;
  std::vector<CacheExtent> extents;
  for (uint32_t i = 0; i < kBlocks; ++i) {
    extents.push_back({.offset_bytes = i * 2 * kMiB, .size_bytes = static_cast<uint32_t>(2 * kMiB), .word = i});
    scratch.cache->reset(i);
  }
  const pid_t child = fork();
  if (child == 0) {
    auto view = CacheView::open(scratch.cache->path(), scratch.cache->file_bytes());
    if (!view.ok()) _exit(2);
    auto mapping = Mapping::map(**view, extents);
    if (!mapping.ok()) _exit(3);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      for (uint32_t chunk = 0; chunk < 8; ++chunk) {
        const uint32_t mask = block % 2 ? 0xff : 1u << chunk;
        if (!(*view)->wait(extents[block], mask, in_seconds(30)).ok()) _exit(4);
        const std::byte* at = mapping->bytes().data() + block * 2 * kMiB + chunk * kChunkBytes;
        const std::byte value{static_cast<uint8_t>(1 + block * 8 + chunk)};
        if (at[0] != value || at[kChunkBytes - 1] != value) _exit(5);
      }
    }
    _exit(0);
  }
  for (uint32_t block = 0; block < kBlocks; ++block) {
    for (uint32_t chunk = 0; chunk < 8; ++chunk) {
      scratch.fill(block * 2 * kMiB + chunk * kChunkBytes, kChunkBytes, static_cast<int>(1 + block * 8 + chunk));
      scratch.cache->publish(block, 1u << chunk, 0xff);
      if (chunk % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(CacheProcesses, a_reader_killed_while_it_waits_leaves_the_cache_usable) {
  ScratchCache scratch;
  const CacheExtent extent{.offset_bytes = 0, .size_bytes = 4096, .word = 0};
  scratch.cache->reset(0);
  const pid_t child = fork();
  if (child == 0) {
    auto view = CacheView::open(scratch.cache->path(), scratch.cache->file_bytes());
    (void)(*view)->wait(extent, 1, in_seconds(60));
    _exit(0);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  scratch.cache->publish(0, 1, 1);  // Wakes for nobody at worst.
  EXPECT_TRUE(scratch.view()->wait(extent, 1, in_seconds(20)).ok());
}

}  // namespace
}  // namespace cenote::cache
