// Goal: the agent's side makes one well-formed cache, leaves nothing behind, and its words say what arrived.
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <thread>

#include "scratch_cache.h"

namespace cenote::cache {
namespace {

TEST(HostCache, a_word_collects_chunks_until_it_is_given_to_another_block) {
  ScratchCache scratch;
  HostCache& cache = *scratch.cache;
  cache.reset(5);
  EXPECT_EQ(cache.chunks(5), 0u);
  cache.publish(5, 0b0110, 0b1111);
  cache.publish(5, 0b1000, 0b1111);
  EXPECT_EQ(cache.chunks(5), 0b1110u);
  const auto view = scratch.view();
  const uint32_t first = view->word(5) & kGenerationMask;
  cache.reset(5);
  EXPECT_EQ(cache.chunks(5), 0u);
  EXPECT_NE(view->word(5) & kGenerationMask, first);
}

TEST(HostCache, generations_wrap_without_touching_the_flags) {
  ScratchCache scratch;
  for (uint32_t i = 0; i < (1u << 14) + 3; ++i) scratch.cache->reset(1);
  EXPECT_EQ(scratch.view()->word(1) & ~kGenerationMask, kLiveBit);
}

TEST(HostCache, two_agents_of_one_name_cannot_share_a_host) {
  ScratchCache scratch;
  const auto second = HostCache::create({.directory = scratch.directory, .name = "test", .data_bytes = 16 << 20});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr("another name"));
}

TEST(HostCache, what_a_killed_agent_left_is_replaced_and_not_reused) {
  ScratchCache scratch;
  const std::string path = scratch.directory + "/cenote-dead.cache";
  const pid_t child = fork();
  if (child == 0) {
    auto cache = HostCache::create({.directory = scratch.directory, .name = "dead", .data_bytes = 4 << 20});
    if (!cache.ok()) _exit(1);
    std::memset((*cache)->data().data(), 0xee, 4096);
    _exit(0);  // No destructor runs, as with SIGKILL.
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path));
  auto cache = HostCache::create({.directory = scratch.directory, .name = "dead", .data_bytes = 4 << 20});
  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_EQ((*cache)->data()[0], std::byte{0});
  cache->reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(HostCache, more_than_the_tmpfs_holds_is_refused_with_both_sizes) {
  ScratchCache scratch;
  const auto huge = HostCache::create({.directory = scratch.directory, .name = "huge", .data_bytes = 1ull << 50});
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(huge.status().message()), testing::HasSubstr("cache_capacity"));
  const auto tiny = HostCache::create({.directory = scratch.directory, .name = "tiny", .data_bytes = 4096});
  EXPECT_EQ(tiny.status().code(), absl::StatusCode::kInvalidArgument);
  const auto odd = HostCache::create({.directory = scratch.directory, .name = "../x", .data_bytes = 4 << 20});
  EXPECT_EQ(odd.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(HostCache, a_view_refuses_what_is_not_a_cache) {
  ScratchCache scratch;
  const std::string path = scratch.directory + "/other";
  std::ofstream(path) << std::string(64 << 10, 'x');
  EXPECT_EQ(CacheView::open(path, 64 << 10).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CacheView::open(path, 32 << 10).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CacheView::open(path + "-absent", 4096).status().code(), absl::StatusCode::kNotFound);
}

// As root only: the private tmpfs leaves nothing in the namespace of others.
TEST(HostCache, a_private_mount_is_seen_by_children_and_by_nobody_else) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  ScratchCache scratch;
  const std::string point = scratch.directory + "/mount";
  int ready[2];
  int go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  const pid_t agent = fork();
  if (agent == 0) {
    auto cache = HostCache::create({.directory = scratch.directory, .name = "private", .data_bytes = 4 << 20, .mount_point = point});
    if (!cache.ok() || (*cache)->path().rfind(point, 0) != 0) _exit(2);
    const pid_t executor = fork();
    if (executor == 0) _exit(CacheView::open((*cache)->path(), (*cache)->file_bytes()).ok() ? 0 : 3);
    int status = 0;
    waitpid(executor, &status, 0);
    char byte = 'r';
    if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) _exit(4);
    _exit(WEXITSTATUS(status));
  }
  char byte = 0;
  close(ready[1]);
  const bool alive = read(ready[0], &byte, 1) == 1;
  if (alive) {
    EXPECT_TRUE(std::filesystem::is_empty(point));  // Our namespace sees the bare directory.
    ASSERT_EQ(write(go[1], "g", 1), 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(agent, &status, 0), agent);
  if (WEXITSTATUS(status) == 2 && !alive) GTEST_SKIP() << "this system does not let root mount";
  EXPECT_EQ(status, 0);
  for (const int fd : {ready[0], go[0], go[1]}) close(fd);
}

}  // namespace
}  // namespace cenote::cache
