// An agent and its surroundings: executors that speak when told to, a fetcher that ends jobs when told to, a clock by hand.
#pragma once

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>

#include "base/units.h"
#include "node/agent.h"

namespace cenote::node {

using namespace agent;  // NOLINT

inline Digest digest_of(uint64_t n) {
  Digest digest;
  std::memcpy(digest.bytes.data(), &n, sizeof n);
  digest.bytes[31] = 1;
  return digest;
}

// A model of `blocks` blocks of 1 MiB, numbered from `first`, and a manifest block.
inline RevisionRecord model(uint64_t n, uint64_t first, uint64_t blocks) {
  RevisionRecord record{.digest = digest_of(n), .name = "model-" + std::to_string(n), .manifest_bytes = 4096};
  record.manifest_blocks = {{.id = digest_of(1000 + n), .size_bytes = 4096}};
  for (uint64_t i = 0; i < blocks; ++i) record.blocks.push_back({.id = digest_of(2000 + first + i), .size_bytes = static_cast<uint32_t>(kMiB)});
  record.weight_bytes = blocks * kMiB;
  return record;
}

// Feeds an agent and plays its surroundings: executors that release when asked, a fetcher that ends jobs when told.
class World {
 public:
  explicit World(uint64_t cache_bytes = 16 * kMiB, bool check_cached = true)
      : agent({.name = "a", .devices = {"host:0", "host:1"}, .cache_bytes = cache_bytes, .cache_words = 256, .cache_path = "/cache",
               .check_cached = check_cached}) {}

  void step(std::vector<Event> events = {}) {
    std::vector<Action> actions;
    agent.step(now, events, actions);
    for (Action& action : actions) {
      if (auto* fetch = std::get_if<StartFetch>(&action)) {
        EXPECT_FALSE(jobs.contains(fetch->job.id));
        jobs[fetch->job.id] = fetch->job;
      } else if (auto* told = std::get_if<Tell>(&action)) {
        this->told[told->stream].push_back(told->message);
      } else if (auto* check = std::get_if<CheckManifest>(&action)) {
        checks.push_back(*check);
      } else if (auto* cancel = std::get_if<CancelFetch>(&action)) {
        cancelled.insert(cancel->job);
      } else if (auto* retire = std::get_if<RetireWord>(&action)) {
        ++retired;
        changed_words.push_back(retire->word);
      } else if (auto* reset = std::get_if<ResetWord>(&action)) {
        changed_words.push_back(reset->word);
      } else {
        others.push_back(std::move(action));
      }
    }
  }
  void pass(Duration d) {
    now = now + d;
    step();
  }
  void assign(std::vector<RevisionRecord> records, std::vector<Digest> evict = {}) {
    Assignment assignment{.version = ++version, .revisions = records, .evict = std::move(evict)};
    for (const RevisionRecord& record : records) {
      models[record.digest] = record;
      if (std::find(assignment.evict.begin(), assignment.evict.end(), record.digest) == assignment.evict.end()) {
        for (const char* device : {"host:0", "host:1"}) assignment.prefetch[device].push_back(record.digest);
      }
      for (const BlockRef& ref : record.blocks) assignment.replicas[ref.id] = {"m0", "m1"};
      for (const BlockRef& ref : record.manifest_blocks) assignment.replicas[ref.id] = {"m1"};
    }
    step({AssignmentCame{std::move(assignment)}});
  }
  void attach(StreamId stream, size_t device) {
    step({ExecutorSpawned{device, {}, static_cast<int64_t>(100 + device)}});
    step({ExecutorSaid{stream, ExecutorReport{.name = "a/host:" + std::to_string(device), .address = "h:1", .incarnation = 5}}});
  }
  void acquire(StreamId stream, uint64_t ticket, uint64_t n, bool urgent = true) {
    step({ExecutorSaid{stream, Acquire{.ticket = ticket, .revision = digest_of(n), .urgent = urgent}}});
  }
  void release(StreamId stream, uint64_t n) { step({ExecutorSaid{stream, ReleaseRevision{digest_of(n)}}}); }
  void end_job(uint64_t job, absl::Status status = {}, std::vector<Digest> missing = {}) {
    ASSERT_TRUE(jobs.contains(job));
    if (!status.ok() && missing.empty()) {
      for (const FetchBlock& block : jobs[job].blocks) missing.push_back(block.ref.id);
    }
    jobs.erase(job);
    step({FetchEnded{{.job = job, .status = std::move(status), .missing = std::move(missing), .bytes = 5}}});
  }
  // Whatever is under way ends well.
  void settle() {
    for (int i = 0; i < 100 && (!jobs.empty() || !checks.empty()); ++i) {
      if (!jobs.empty()) {
        const uint64_t id = jobs.begin()->first;
        const bool was_cancelled = cancelled.contains(id);
        end_job(id, was_cancelled ? absl::CancelledError("") : absl::OkStatus());
      }
      for (const CheckManifest& check : std::exchange(checks, {})) {
        std::vector<BlockEntry> blocks;
        for (const BlockRef& ref : models[check.revision].blocks) blocks.push_back({.ref = ref, .chunk_sums = {1, 2, 3, 4}});
        step({ManifestChecked{check.revision, blocks}});
      }
    }
  }
  template <typename T>
  std::vector<T> take(StreamId stream) {
    std::vector<T> found;
    std::vector<ExecutorDown> rest;
    for (ExecutorDown& message : told[stream]) {
      if (auto* typed = std::get_if<T>(&message)) {
        found.push_back(*typed);
      } else {
        rest.push_back(std::move(message));
      }
    }
    told[stream] = std::move(rest);
    return found;
  }
  template <typename T>
  size_t count() const {
    return static_cast<size_t>(std::count_if(others.begin(), others.end(), [](const Action& a) { return std::holds_alternative<T>(a); }));
  }

  Instant now{1'000'000'000};
  Agent agent;
  uint64_t version = 0;
  std::map<Digest, RevisionRecord> models;
  std::map<uint64_t, FetchJob> jobs;
  std::set<uint64_t> cancelled;
  std::vector<CheckManifest> checks;
  std::map<StreamId, std::vector<ExecutorDown>> told;
  std::vector<Action> others;
  int retired = 0;
  std::vector<uint32_t> changed_words;
};

}  // namespace cenote::node
