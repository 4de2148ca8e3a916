// simulate/executor_node.h - node/executor.h in a place of the simulator: its agent, its sessions, a device that takes time. What it
// computes on must be the revision's bytes, from the first to the last instant of a run.
#pragma once

#include <deque>
#include <optional>
#include <set>

#include "node/acquires.h"
#include "node/executor.h"
#include "simulate/agent_node.h"
#include "simulate/host_cache.h"
#include "simulate/session.h"

namespace cenote::simulate {

class ExecutorNode final : public Process {
 public:
  ExecutorNode(Network& network, PlaceId place, Incarnation incarnation, int64_t pid, const DeviceShape& shape, PlaceId agent,
               std::shared_ptr<HostCache> cache, const Truth& truth);
  ~ExecutorNode() override { cache_->readers.erase(place()); }

  void start() override;
  void run(Instant now) override;
  Instant due() const override;

  void take(const std::shared_ptr<SessionWire>& wire);
  const node::Executor& machine() const { return machine_; }
  // What it has acquired and not given back.
  std::set<Digest> mapped() const;

 private:
  // A revision that was prepared: load/resident.h and the graph.
  struct Held {
    const RevisionRecord* record = nullptr;
    Acquired acquired;
    std::vector<uint32_t> generations;    // Of its words, when it was mapped.
    Readiness reported = Readiness::kNone;
    Readiness readiness = Readiness::kLoading;
    bool settling = false;                // All is there; being mapped or copied.
    bool released = false;
    absl::Status status;
    bool fetched = false;
  };
  struct Run {
    Digest revision;
    std::optional<node::executor::RunModel> model;  // Empty: a warm-up.
    bool computing = false;                         // All weights are there.
    Duration time;                                  // That it computes.
  };
  using SessionId = node::executor::SessionId;

  void arrived(SessionId session, InferUp up);
  void from_agent(ExecutorDown message);
  void take_from_agent(const Attached& attached);
  void take_from_agent(Acquired& acquired);
  void take_from_agent(Prefetch& prefetch) { inputs_.emplace_back(node::executor::PrefetchChanged{std::move(prefetch.revisions)}); }
  void take_from_agent(const EvictRevision& evict) { inputs_.emplace_back(node::executor::EvictAsked{evict.revision}); }
  void take_from_agent(const DrainExecutor&) { drain_asked_ = true; }
  void take_from_agent(const FetchDone& done);
  void take_from_agent(const AttachBeat& beat) { inputs_.emplace_back(node::executor::AgentBeat{beat.next}); }
  void acquire(const Digest& revision, bool urgent);
  void prepare(const Digest& revision, const Acquired& acquired);
  void prepared(const Digest& revision, const Acquired& acquired);
  void look_at_weights();
  void look(const Digest& revision, Held& held);
  void begin_run(node::executor::RunModel model);
  void go_on();
  void compute_ended();
  void end_run(absl::Status status);
  void check_weights(const Held& held, const char* when);
  void report();

  void perform(node::executor::SendReply& action);
  void perform(node::executor::SendFreed& action);
  void perform(node::executor::Announce& action);
  void perform(const node::executor::SendBeat& action) { send(action.session, PeerBeat{action.next}, 64); }
  void perform(const node::executor::SendStuck& action) { send(action.session, RequestStuck{action.id}, 64); }
  void perform(const node::executor::Noticed& action) { world().say(name(), action.silent ? ": its agent is silent" : ": its agent speaks again"); }
  void perform(const node::executor::OpenRevision& action);
  void perform(const node::executor::CloseRevision& action);
  void perform(node::executor::RunModel& action);
  void perform(const node::executor::WarmUp& action);
  void send(SessionId session, InferDown down, uint64_t bytes = 256);

  const int64_t pid_;
  const DeviceShape shape_;
  const PlaceId agent_;
  const std::shared_ptr<HostCache> cache_;
  const Truth& truth_;
  node::Executor machine_;
  std::shared_ptr<AttachWire> attach_;
  std::vector<node::executor::Event> inputs_;
  std::map<SessionId, std::shared_ptr<SessionWire>> sessions_;
  SessionId next_session_ = 1;
  std::set<SessionId> welcomed_;
  Acquires acquires_;
  std::map<Digest, Held> held_;
  std::map<Digest, uint64_t> device_bytes_;   // Taken in the device's own memory, closing ones too.
  std::map<Digest, FetchDone> fetched_early_;
  std::set<Digest> released_;                  // Closing ones whose cache the agent has back.
  std::optional<Run> run_;
  std::deque<node::executor::RunModel> ahead_;  // Handed over behind it.
  uint64_t run_number_ = 0;
  std::map<RequestId, Instant> answered_;      // Small and Ok: may not be computed again for kReplyMemory.
  bool attached_ = false;
  bool agent_gone_ = false;
  bool drain_asked_ = false;
  Instant next_report_;
  Instant next_beat_ = Instant::infinite_future();
  Instant drain_end_ = Instant::infinite_future();
};

}  // namespace cenote::simulate
