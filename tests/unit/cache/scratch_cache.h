// A small cache in a temporary directory of the tmpfs, gone with the object.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cache/host_cache.h"
#include "cache/mapping.h"

namespace cenote::cache {

struct ScratchCache {
  std::string directory;
  std::unique_ptr<HostCache> cache;

  explicit ScratchCache(uint64_t bytes = 16 << 20) {
    char pattern[] = "/dev/shm/cenote-cache-test-XXXXXX";
    directory = mkdtemp(pattern);
    auto made = HostCache::create({.directory = directory, .name = "test", .data_bytes = bytes, .incarnation = 7});
    EXPECT_TRUE(made.ok()) << made.status();
    cache = *std::move(made);
  }
  ~ScratchCache() {
    cache.reset();
    std::filesystem::remove_all(directory);
  }
  std::unique_ptr<CacheView> view() {
    auto opened = CacheView::open(cache->path(), cache->file_bytes());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  void fill(uint64_t offset, uint64_t size, int value) { std::memset(cache->data().data() + offset, value, size); }
};

inline Instant in_seconds(double seconds) { return monotonic_now() + Duration::from_seconds(seconds); }

}  // namespace cenote::cache
