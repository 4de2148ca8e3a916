// simulate/agent_node.h - node/agent.h in a place of the simulator: its cache, its fetcher, its executors as processes.
#pragma once

#include "node/agent.h"
#include "simulate/fetch_side.h"
#include "simulate/session.h"
#include "simulate/truth.h"
#include "simulate/uplink.h"

namespace cenote::simulate {

struct DeviceShape {
  std::string name = "host:0";
  bool maps_host_memory = true;             // False: weights are copied into memory of its own.
  uint64_t memory_bytes = 24 * kMiB;        // Of its own.
  uint32_t credits = 4;
  uint32_t queue_max = 16;
  Duration compute_max = Duration::from_ms(60);
};

struct AgentShape {
  std::vector<DeviceShape> devices;
  uint64_t cache_bytes = 40 * kMiB;
  uint32_t cache_words = 64;
  Duration read_timeout = Duration::from_seconds(1);
  Duration acquire_timeout = Duration::from_seconds(5);
  Duration silence_max = Duration::from_seconds(4);
  Duration start_timeout = Duration::from_seconds(8);
  Duration heartbeat = Duration::from_ms(400);
  Duration drain_timeout = Duration::from_seconds(3);
};

class AgentNode final : public Process {
 public:
  AgentNode(Network& network, PlaceId place, Incarnation incarnation, const AgentShape& shape, PlaceId controller, Truth& truth);

  void start() override { link_.open(); }
  void run(Instant now) override;
  Instant due() const override;
  void killed() override;

  void take(const std::shared_ptr<AttachWire>& wire);
  const std::shared_ptr<HostCache>& cache() const { return cache_; }
  const node::Agent& machine() const { return *machine_; }
  bool idle() const { return fetch_.idle(); }

 private:
  using Inputs = std::vector<node::agent::Event>;
  void obey(Directive directive);
  void report();
  bool changes(const ExecutorReport& report);
  void said(node::agent::StreamId stream, ExecutorUp message);
  PlaceId executor_place(size_t device) const;
  absl::StatusOr<std::vector<BlockEntry>> check_manifest(const node::agent::CheckManifest& check) const;
  void check();
  void ended(FetchResult result);

  void perform(node::agent::Tell& a, Inputs&);
  void perform(node::agent::CloseStream& a, Inputs&);
  void perform(node::agent::SpawnExecutor& a, Inputs& inputs);
  void perform(node::agent::KillExecutor& a, Inputs&);
  void perform(node::agent::SetServers& a, Inputs&) { fetch_.set_servers(a.servers); }
  void perform(node::agent::RetireWord& a, Inputs&) { cache_->retire(a.word); }
  void perform(node::agent::ResetWord& a, Inputs&) { cache_->reset(a.word); }
  void perform(node::agent::CheckManifest& a, Inputs&);
  void perform(node::agent::StartFetch& a, Inputs&);
  void perform(node::agent::PromoteFetch& a, Inputs&) { fetch_.promote(a.job); }
  void perform(node::agent::CancelFetch& a, Inputs&) { fetch_.cancel(a.job); }
  void perform(node::agent::Noticed& a, Inputs&) { world().say(name(), "/", shape_.devices.at(a.device).name, a.silent ? " is silent" : " speaks again"); }
  void perform(node::agent::WantBlock& a, Inputs&) { fetch_.want(a.block, a.chunks); }

  const AgentShape shape_;
  const PlaceId controller_;
  Truth& truth_;
  std::shared_ptr<HostCache> cache_;
  Inputs inputs_;
  FetchSide fetch_;
  std::unique_ptr<node::Agent> machine_;
  Uplink link_;
  std::map<node::agent::StreamId, std::shared_ptr<AttachWire>> streams_;
  node::agent::StreamId next_stream_ = 1;
  std::map<std::string, std::string> reported_;
  int64_t next_pid_ = 100;
  std::map<size_t, int64_t> pids_;
  Instant next_report_;
  Instant drain_end_ = Instant::infinite_future();
  bool drain_asked_ = false;
};

}  // namespace cenote::simulate
