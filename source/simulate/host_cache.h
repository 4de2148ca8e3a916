// simulate/host_cache.h - a host's shared memory as cache/ lays it out, without the bytes: arrival words and what lies in the data. The
// agent's process writes it; its executors read it and are told when a word changes. Lives as long as any of them maps it.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "message/link.h"
#include "simulate/content.h"

namespace cenote::simulate {

struct HostCache {
  struct Word {
    uint32_t chunks = 0;
    bool failed = false;
    bool live = false;
    uint32_t generation = 0;
  };
  explicit HostCache(uint32_t count) : words(count) {}

  void reset(uint32_t word) {
    words[word] = {.live = true, .generation = words[word].generation + 1};
    changed();
  }
  void retire(uint32_t word) {
    words[word] = {.generation = words[word].generation};
    changed();
  }
  void publish(uint32_t word, uint32_t mask) {
    words[word].chunks |= mask;
    changed();
  }
  void set_failed(uint32_t word, bool failed) {
    words[word].failed = failed;
    changed();
  }
  bool whole(const CacheExtent& extent) const {
    const uint32_t all = (1u << chunk_count(extent.size_bytes)) - 1;
    return (words[extent.word].chunks & all) == all;
  }
  void changed() {
    for (const auto& [reader, told] : readers) told();
  }

  std::vector<Word> words;
  Content data;
  std::map<uint32_t, std::function<void()>> readers;   // By place.
  bool agent_lost = false;
};

}  // namespace cenote::simulate
