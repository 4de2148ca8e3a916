// fabric/libfabric/transport.h - Transport over libfabric's reliable datagram endpoints: tcp, verbs, EFA, shm.
//
// One fid_ep serves all peers; each Endpoint has a fid_ep, a completion queue and an address vector of its own. A bad
// access or a deadline closes just these three, after which nothing can write into the buffers and no completion can come
// late. All share one domain, so a region is registered once.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fabric/exclusive_use.h"
#include "fabric/libfabric/handles.h"
#include "fabric/libfabric/operations.h"
#include "fabric/libfabric/provider.h"
#include "fabric/transport.h"

namespace cenote::fabric {

class LibfabricEndpoint;

// What one fid_ep needs. libfabric wants the endpoint closed first: destruction does that, assignment would not.
struct Port {
  Port() = default;
  Port(Port&&) = default;
  Port& operator=(Port&&) = delete;
  void close() {
    endpoint.reset();
    queue.reset();
    addresses.reset();
  }

  Fid<fid_av> addresses;
  Fid<fid_cq> queue;
  int wait_fd = -1;  // The queue's, -1 if the provider has none.
  // fi_trywait agreed to sleep, and since then nothing was posted and the descriptor did not fire: there is nothing to look
  // for. Keeps idle ports from costing system calls on every poll().
  bool armed = false;
  Fid<fid_ep> endpoint;
};

class LibfabricTransport final : public Transport {
 public:
  static absl::StatusOr<std::unique_ptr<Transport>> open(const TransportOptions& options);
  ~LibfabricTransport() override;

  std::string provider() const override { return choice_.name; }
  Address address() const override { return address_; }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, Access access) override;
  absl::StatusOr<std::unique_ptr<Endpoint>> connect(const Address& peer) override;
  size_t poll(std::span<Completion> completions) override;
  void wait(Duration at_most) override;
  void wake() override;
  uint64_t transfer_bytes_max() const override;
  FabricStats stats() const override { return stats_; }

 private:
  friend class LibfabricEndpoint;
  friend class LibfabricRegion;
  struct Ready {
    LibfabricEndpoint* endpoint;
    Completion completion;
  };

  LibfabricTransport() = default;
  absl::Status start(const TransportOptions& options);
  absl::StatusOr<Port> open_port(fi_info* info);
  absl::Status read_own_address();

  // transport_progress.cc
  void watch(Port& port);
  void unwatch(Port& port);
  void progress(Instant now);
  void serve();
  Instant next_due(Instant until) const;
  // Asks every port for leave to sleep. False: one has something to look at.
  bool arm();
  // Sleeps until a descriptor fires, at most `timeout`, and disarms the ports that did. True: wake() was called.
  bool sleep(Duration timeout);
  void deliver(LibfabricEndpoint* endpoint, Completion completion) { ready_.push_back({endpoint, completion}); }
  void forget(LibfabricEndpoint* endpoint);

  ProviderChoice choice_;
  Duration connect_timeout_;
  Fid<fid_fabric> fabric_;
  Fid<fid_domain> domain_;
  std::optional<Port> serving_;
  Address address_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  bool pollable_ = true;            // False: some queue has no descriptor (shm), so wait() looks now and then.
  std::vector<Port*> ports_;        // All that are open.
  std::vector<LibfabricEndpoint*> endpoints_;
  std::deque<Ready> ready_;         // At most kOperationsPerTransportMax: each entry holds an operation.
  OperationPool operations_;
  size_t regions_ = 0;
  FabricStats stats_;
  ExclusiveUse use_;
};

class LibfabricRegion final : public MemoryRegion {
 public:
  LibfabricRegion(LibfabricTransport& transport, std::span<std::byte> bytes, Fid<fid_mr> registration, uint64_t base)
      : transport_(transport), bytes_(bytes), registration_(std::move(registration)), base_(base) {
    ++transport_.regions_;
  }
  ~LibfabricRegion() override { --transport_.regions_; }
  std::span<std::byte> bytes() const override { return bytes_; }
  RegionKey key() const override { return {.key = fi_mr_key(registration_.get()), .base = base_}; }
  void* descriptor() const { return fi_mr_desc(registration_.get()); }

 private:
  LibfabricTransport& transport_;
  std::span<std::byte> bytes_;
  Fid<fid_mr> registration_;
  uint64_t base_;
};

}  // namespace cenote::fabric
