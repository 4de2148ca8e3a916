// Goal: whatever executors, servers and people do, what is held stays where it is, and calm leaves nothing pinned.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "agent_world.h"
#include "base/rng.h"

namespace cenote::node {
namespace {

// Random executors, fetches and evictions: what is held stays whole and in place, and calm leaves nothing pinned.
RC_GTEST_PROP(AgentProperties, held_bytes_never_move_and_everything_settles, ()) {
  Rng rng(*rc::gen::arbitrary<uint64_t>());
  World w(12 * kMiB);
  std::vector<RevisionRecord> records;
  for (uint64_t m = 0; m < 5; ++m) records.push_back(model(m, rng.below(12), 1 + rng.below(6)));
  w.assign(records);
  std::map<size_t, StreamId> streams;
  StreamId next_stream = 1;
  uint64_t next_ticket = 1;
  std::map<uint64_t, std::pair<StreamId, Digest>> tickets;  // Not answered yet.
  std::map<std::pair<StreamId, Digest>, std::vector<CacheExtent>> held;
  const auto collect = [&] {
    for (const uint32_t word : std::exchange(w.changed_words, {})) {
      for (const auto& [holder, extents] : held) {
        for (const CacheExtent& extent : extents) RC_ASSERT(extent.word != word);
      }
    }
    for (const auto& [device, stream] : streams) {
      for (const Acquired& acquired : w.take<Acquired>(stream)) {
        const auto asked = tickets.find(acquired.ticket);
        RC_ASSERT(asked != tickets.end());  // Each is answered once.
        if (acquired.status.ok()) {
          const auto before = held.find(asked->second);
          if (before != held.end()) RC_ASSERT(before->second.front().offset_bytes == acquired.weights.front().offset_bytes);
          held[asked->second] = acquired.weights;
        }
        tickets.erase(asked);
      }
    }
    std::map<uint64_t, uint64_t> runs;  // Offset -> end, over everything held: equal or apart.
    for (const auto& [holder, extents] : held) {
      for (const CacheExtent& extent : extents) runs[extent.offset_bytes] = extent.offset_bytes + extent.size_bytes;
    }
    uint64_t end = 0;
    for (const auto& [begin, run_end] : runs) {
      RC_ASSERT(end <= begin);
      end = run_end;
    }
  };
  const auto release = [&](StreamId stream, const Digest& revision) {
    held.erase({stream, revision});
    w.step({ExecutorSaid{stream, ReleaseRevision{revision}}});
  };
  for (int step = 0; step < 150; ++step) {
    const size_t device = rng.below(2);
    const bool attached = streams.contains(device);
    switch (rng.below(9)) {
      case 0:
        if (attached) break;
        streams[device] = next_stream++;
        w.attach(streams[device], device);
        break;
      case 1:
      case 2: {
        if (!attached) break;
        const uint64_t m = rng.below(5);
        tickets[next_ticket] = {streams[device], digest_of(m)};
        w.acquire(streams[device], next_ticket++, m, rng.below(2) == 0);
        break;
      }
      case 3:
        if (attached) release(streams[device], digest_of(rng.below(5)));
        break;
      case 4: {
        if (!attached || rng.below(4) != 0) break;
        const StreamId stream = streams[device];
        streams.erase(device);
        std::erase_if(held, [&](const auto& entry) { return entry.first.first == stream; });
        std::erase_if(tickets, [&](const auto& entry) { return entry.second.first == stream; });
        w.step({StreamEnded{stream}, ExecutorExited{device, static_cast<int64_t>(100 + device), "signal 9"}});
        break;
      }
      case 5: {
        if (w.jobs.empty()) break;
        const uint64_t id = w.jobs.begin()->first;
        if (w.cancelled.contains(id)) {
          w.end_job(id, absl::CancelledError(""));
        } else {
          w.end_job(id, rng.below(4) == 0 ? absl::UnavailableError("x") : absl::OkStatus());
        }
        break;
      }
      case 6: w.settle(); break;
      case 7: w.assign(records, rng.below(3) == 0 ? std::vector<Digest>{digest_of(rng.below(5))} : std::vector<Digest>{}); break;
      case 8: w.pass(Duration::from_ms(static_cast<int64_t>(rng.below(400)))); break;
    }
    collect();
    for (const auto& [d, stream] : streams) {
      for (const EvictRevision& evict : w.take<EvictRevision>(stream)) {
        if (rng.below(3) != 0) release(stream, evict.revision);
      }
    }
    collect();
  }
  for (const auto& [device, stream] : streams) w.step({StreamEnded{stream}});
  w.settle();
  w.pass(Duration::from_seconds(40));
  w.settle();
  RC_ASSERT(w.jobs.empty());
  RC_ASSERT(w.agent.counts().cache_pinned_bytes == 0u);
}

}  // namespace
}  // namespace cenote::node
