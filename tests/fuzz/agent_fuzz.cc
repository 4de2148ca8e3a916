// Goal: whatever its executors and the controller say, and however fetches end, an agent places blocks within its cache and apart, fetches
// only into what is placed, gives out only what it said is there, and drains.
// Input: fuzz::Script; fetches and manifests end when a record says so.
#include <array>
#include <map>
#include <set>

#include "base/units.h"
#include "node/agent.h"
#include "script.h"

namespace cenote {
namespace {

using namespace node;
using namespace node::agent;
using fuzz::Record;

constexpr uint64_t kCacheBytes = 512 * kKiB;

class World final : fuzz::Surroundings<Event> {
 public:
  World() : machine_({.name = "agent-0", .devices = {"host:0", "host:1"}, .cache_bytes = kCacheBytes, .cache_words = 64, .cache_path = "/cache"}) { step({}); }

  void play(const Record& record) {
    StreamId& stream = streams_[record.who % streams_.size()];
    switch (record.kind % 8) {
      case 0:
      case 1:
        if (auto up = fuzz::message<v1::ExecutorUp>(record)) said(stream, *std::move(up));
        break;
      case 2: feed(StreamEnded{std::exchange(stream, next_stream_++)}); break;
      case 3:
        if (auto directive = fuzz::message<v1::Directive>(record)) obey(*std::move(directive));
        break;
      case 4: end_job(record.who); break;
      case 5: end_check(record.who); break;
      case 6: exit(record.who % 2); break;
      case 7: pass(Duration::from_ms(static_cast<int64_t>(record.number() % 3'000))); break;
    }
    const AgentCounts counts = machine_.counts();
    CENOTE_CHECK(counts.cache_pinned_bytes <= counts.cache_used_bytes && counts.cache_used_bytes <= kCacheBytes);
  }
  void end() {
    for (const StreamId stream : streams_) feed(StreamEnded{stream});
    feed(DrainBegan{});
    for (int i = 0; i < 300 && !machine_.drained(); ++i) {
      while (!jobs_.empty()) end_job(0);
      while (!checks_.empty()) end_check(0);
      for (size_t device = 0; device < 2; ++device) exit(device);
      pass(Duration::from_ms(1'000));
    }
    CENOTE_CHECK(machine_.drained());
  }

 private:
  void said(StreamId stream, ExecutorUp up) {
    if (auto* acquire = std::get_if<Acquire>(&up)) fuzz::fold(acquire->revision);
    if (auto* want = std::get_if<Want>(&up)) fuzz::fold(want->revision);
    if (auto* release = std::get_if<ReleaseRevision>(&up)) fuzz::fold(release->revision);
    if (auto* report = std::get_if<ExecutorReport>(&up)) {
      for (RevisionState& state : report->revisions) fuzz::fold(state.revision);
    }
    feed(ExecutorSaid{stream, std::move(up)});
  }
  void obey(Directive directive) {
    auto* assignment = std::get_if<Assignment>(&directive);
    if (assignment == nullptr) return;
    std::map<Digest, RevisionRecord> distinct;
    for (RevisionRecord& record : assignment->revisions) {
      fuzz::fold(record);
      distinct.emplace(record.digest, record);
    }
    assignment->revisions.clear();
    for (auto& [digest, record] : distinct) assignment->revisions.push_back(records_.emplace(digest, record).first->second);  // A digest means one thing.
    std::map<Digest, std::vector<std::string>> replicas;
    for (auto& [block, servers] : assignment->replicas) {
      Digest folded = block;
      fuzz::fold(folded);
      replicas[folded] = servers;
    }
    assignment->replicas = std::move(replicas);
    for (auto& [device, revisions] : assignment->prefetch) fuzz::fold(revisions);
    fuzz::fold(assignment->evict);
    feed(AssignmentCame{std::move(*assignment)});
  }
  void end_job(uint8_t luck) {
    if (jobs_.empty()) return;
    const auto job = jobs_.begin();
    FetchResult result{.job = job->first};
    if (cancelled_.erase(job->first) != 0) {
      result.status = absl::CancelledError("nobody waits for it");
    } else if (luck % 8 == 5) {
      result.status = absl::UnavailableError("no server");
    } else if (luck % 8 == 6) {
      result.status = absl::DataLossError("corrupt everywhere");
    }
    if (!result.status.ok()) {
      for (const FetchBlock& block : job->second.blocks) result.missing.push_back(block.ref.id);
    }
    jobs_.erase(job);
    feed(FetchEnded{std::move(result)});
  }
  void end_check(uint8_t luck) {
    if (checks_.empty()) return;
    const Digest revision = *checks_.begin();
    checks_.erase(checks_.begin());
    std::vector<BlockEntry> blocks;
    for (const BlockRef& ref : records_.at(revision).blocks) blocks.push_back({.ref = ref, .chunk_sums = {1}});
    if (luck % 8 == 5 && !blocks.empty()) blocks.pop_back();
    if (luck % 8 == 6) return feed(ManifestChecked{revision, absl::DataLossError("another digest")});
    feed(ManifestChecked{revision, std::move(blocks)});
  }
  void exit(size_t device) {
    const int64_t pid = std::exchange(pids_[device], 0);
    if (pid != 0) feed(ExecutorExited{device, pid, "exit 0"});
  }

  void step(std::vector<Event> events) override {
    for (int round = 0; round == 0 || !events.empty(); ++round) {
      CENOTE_CHECK(round < 1'000);
      std::vector<Action> actions;
      machine_.step(now_, events, actions);
      events.clear();
      for (const Action& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
    }
  }

  void inside(const CacheExtent& extent) const { CENOTE_CHECK(extent.offset_bytes + extent.size_bytes <= kCacheBytes && extent.word < 64); }
  void perform(const Tell& a, std::vector<Event>&) {
    const auto* acquired = std::get_if<Acquired>(&a.message);
    if (acquired == nullptr || !acquired->status.ok()) return;
    for (const CacheExtent& extent : acquired->manifest) inside(extent);
    for (const CacheExtent& extent : acquired->weights) inside(extent);
  }
  void perform(const CloseStream& a, std::vector<Event>&) { CENOTE_CHECK(!a.why.empty()); }
  void perform(const SpawnExecutor& a, std::vector<Event>& events) {
    CENOTE_CHECK(a.device < 2 && pids_[a.device] == 0);
    pids_[a.device] = next_pid_++;
    events.push_back(ExecutorSpawned{.device = a.device, .status = {}, .pid = pids_[a.device]});
  }
  void perform(const KillExecutor& a, std::vector<Event>& events) {
    const int64_t pid = std::exchange(pids_.at(a.device), 0);
    if (pid != 0) events.push_back(ExecutorExited{a.device, pid, "signal 9"});
  }
  void perform(const SetServers&, std::vector<Event>&) {}
  void perform(const RetireWord& a, std::vector<Event>&) { CENOTE_CHECK(a.word < 64); }
  void perform(const ResetWord& a, std::vector<Event>&) { CENOTE_CHECK(a.word < 64); }
  void perform(const CheckManifest& a, std::vector<Event>&) {
    for (const CacheExtent& extent : a.extents) inside(extent);
    checks_.insert(a.revision);
  }
  void perform(const StartFetch& a, std::vector<Event>&) {
    std::map<uint64_t, uint64_t> places;
    for (const FetchBlock& block : a.job.blocks) {
      inside(block.extent);
      const auto [at, fresh] = places.emplace(block.extent.offset_bytes, block.extent.size_bytes);
      CENOTE_CHECK(fresh || at->second == block.extent.size_bytes);
    }
    uint64_t end = 0;
    for (const auto& [offset, size] : places) {
      CENOTE_CHECK(offset >= end);
      end = offset + size;
    }
    CENOTE_CHECK(jobs_.emplace(a.job.id, a.job).second);
  }
  void perform(const PromoteFetch& a, std::vector<Event>&) { CENOTE_CHECK(jobs_.contains(a.job)); }
  void perform(const CancelFetch& a, std::vector<Event>&) {
    CENOTE_CHECK(jobs_.contains(a.job));
    cancelled_.insert(a.job);
  }
  void perform(const WantBlock&, std::vector<Event>&) {}
  void perform(const Noticed&, std::vector<Event>&) {}

  Agent machine_;
  std::array<StreamId, 3> streams_{1, 2, 3};
  StreamId next_stream_ = 4;
  std::array<int64_t, 2> pids_{};
  int64_t next_pid_ = 100;
  std::map<Digest, RevisionRecord> records_;
  std::map<uint64_t, FetchJob> jobs_;
  std::set<uint64_t> cancelled_;
  std::set<Digest> checks_;
};

}  // namespace
}  // namespace cenote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cenote::World world;
  return cenote::fuzz::play({data, size}, world);
}
