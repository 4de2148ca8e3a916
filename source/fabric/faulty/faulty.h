// fabric/faulty/faulty.h - a Transport around another one in which operations are delayed, fail, fall silent or corrupt their
// bytes, and peers die, by an explicit or a seeded plan. For tests: what a room does then must follow transport.h all the same.
//
// Regions are the inner Transport's. The control functions (kill_peer and so on) may come from any thread; the rest is
// loop-affine as any Transport.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "fabric/exclusive_use.h"
#include "fabric/transport.h"

namespace cenote::fabric {

enum class FaultKind : uint8_t {
  kNone,
  kDelay,      // The completion comes `delay` after the bytes did, or kDeadlineExceeded if that is too late.
  kError,      // Ends in kUnavailable without touching bytes; the endpoint breaks.
  kSilence,    // Nothing, until the operation's deadline breaks the endpoint.
  kCorrupt,    // One bit of the transferred bytes is flipped; the completion says kOk.
  kPeerDeath,  // The peer dies as by kill_peer(), this operation with it.
};

struct Fault {
  FaultKind kind = FaultKind::kNone;
  Duration delay;
};

struct FaultPlan {
  // By the operation's number, counted from 0 over the whole Transport. Goes before the chances.
  std::map<uint64_t, Fault> at;
  // Per operation, drawn from `seed`; together at most 1.
  uint64_t seed = 1;
  double delay_chance = 0;
  double error_chance = 0;
  double silence_chance = 0;
  double corrupt_chance = 0;
  double death_chance = 0;
  std::optional<Address> only;                 // The peer that the chances are for. Empty: all.
  Duration delay_min;                          // Delays are drawn evenly between the two;
  Duration delay_max = Duration::from_ms(5);
  Duration delay_cap = Duration{INT64_MAX};    // longer ones end then.
};

struct FaultCounts {
  uint64_t operations = 0;  // Accepted.
  uint64_t delayed = 0;
  uint64_t errors = 0;
  uint64_t silenced = 0;
  uint64_t corrupted = 0;
  uint64_t deaths = 0;
};

class FaultyEndpoint;

class FaultyTransport final : public Transport {
 public:
  FaultyTransport(std::unique_ptr<Transport> inner, FaultPlan plan);
  ~FaultyTransport() override;

  // As SIGKILL: operations in flight and to come end in kUnavailable, until revive_peer() and a new Endpoint.
  void kill_peer(const Address& peer);
  // As SIGSTOP: operations posted from now on get no answer, until revive_peer().
  void silence_peer(const Address& peer);
  void revive_peer(const Address& peer);
  // Operations posted from now on; their numbers go on counting.
  void set_plan(FaultPlan plan);
  FaultCounts counts() const;

  std::string provider() const override { return inner_->provider(); }
  Address address() const override { return inner_->address(); }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, Access access) override;
  absl::StatusOr<std::unique_ptr<Endpoint>> connect(const Address& peer) override;
  size_t poll(std::span<Completion> completions) override;
  void wait(Duration at_most) override;
  void wake() override { inner_->wake(); }
  uint64_t transfer_bytes_max() const override { return inner_->transfer_bytes_max(); }
  FabricStats stats() const override { return stats_; }

 private:
  friend class FaultyEndpoint;
  struct Operation {
    FaultyEndpoint* endpoint = nullptr;
    Tag tag = 0;
    Instant deadline;
    bool write = false;
    Fault fault;
    std::span<std::byte> local;
    Instant release_at = Instant::infinite_future();  // Set when the bytes came and the fault is a delay.
    std::vector<std::byte> corrupt_bytes;             // A corrupted write's own source,
    std::unique_ptr<MemoryRegion> corrupt_region;     // and its registration.
  };
  struct Ready {
    FaultyEndpoint* endpoint;
    Completion completion;
  };

  using PeerName = std::pair<std::string, std::string>;
  static PeerName name_of(const Address& peer) { return {peer.provider, peer.bytes}; }
  Fault draw(const Address& peer);
  void corrupt(std::span<std::byte> bytes);
  bool peer_dead(const Address& peer) const;
  bool peer_silent(const Address& peer) const;
  void bury_the_dead(Instant now);
  void take_inner(Instant now);
  void release_due(Instant now);
  Instant next_due() const;
  void progress(Instant now);
  void finish(uint64_t number, absl::StatusCode code);

  std::unique_ptr<Transport> inner_;
  std::map<uint64_t, Operation> operations_;  // By number, which is the inner tag.
  std::set<FaultyEndpoint*> endpoints_;
  std::deque<Ready> ready_;
  uint64_t next_number_ = 0;
  FabricStats stats_;
  ExclusiveUse use_;

  mutable std::mutex mutex_;  // Guards the rest.
  FaultPlan plan_;
  Rng rng_;
  std::set<PeerName> dead_;
  std::set<PeerName> silent_;
  FaultCounts counts_;
};

}  // namespace cenote::fabric
