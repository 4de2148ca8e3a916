// fabric/loopback/loopback_transport.h - the loop-affine part of the loopback transport. Begin with loopback.h.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "fabric/exclusive_use.h"
#include "fabric/loopback/loopback_node.h"
#include "fabric/transport.h"

namespace cenote::fabric {

class LoopbackEndpoint;
class LoopbackRegion;

class LoopbackTransport final : public Transport {
 public:
  LoopbackTransport(std::shared_ptr<LoopbackNode> node, std::string address);
  ~LoopbackTransport() override;

  std::string provider() const override { return "loopback"; }
  Address address() const override { return {.provider = "loopback", .bytes = address_}; }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, Access access) override;
  absl::StatusOr<std::unique_ptr<Endpoint>> connect(const Address& peer) override;
  size_t poll(std::span<Completion> completions) override;
  void wait(Duration at_most) override;
  void wake() override { node_->wake(); }
  FabricStats stats() const override { return stats_; }

 private:
  friend class LoopbackEndpoint;
  friend class LoopbackRegion;
  struct Ready {
    uint64_t endpoint;
    Completion completion;
  };

  void progress(Instant now);
  void serve(LoopbackRequest& request);
  bool allowed(const LoopbackRequest& request, std::byte*& remote) const;
  Instant next_due(Instant until) const;

  std::shared_ptr<LoopbackNode> node_;
  std::string address_;
  uint64_t next_endpoint_ = 1;
  std::map<uint64_t, LoopbackEndpoint*> endpoints_;
  std::map<uint64_t, const LoopbackRegion*> regions_;  // By key.
  std::deque<Ready> ready_;
  size_t in_flight_ = 0;
  FabricStats stats_;
  ExclusiveUse use_;
};

class LoopbackRegion final : public MemoryRegion {
 public:
  LoopbackRegion(LoopbackTransport& transport, std::span<std::byte> bytes, Access access, uint64_t key);
  ~LoopbackRegion() override;
  std::span<std::byte> bytes() const override { return bytes_; }
  RegionKey key() const override { return {.key = key_, .base = 0}; }
  bool allows(Access access) const { return (static_cast<uint8_t>(access_) & static_cast<uint8_t>(access)) != 0; }

 private:
  LoopbackTransport& transport_;
  std::span<std::byte> bytes_;
  Access access_;
  uint64_t key_;
};

class LoopbackEndpoint final : public Endpoint {
 public:
  LoopbackEndpoint(LoopbackTransport& transport, Address peer);
  ~LoopbackEndpoint() override;
  absl::Status read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) override;
  absl::Status write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) override;
  bool broken() const override { return broken_; }
  size_t in_flight() const override { return in_flight_; }

  // For the transport.
  void finished(const LoopbackRequestPtr& request, Instant now);
  void check_deadlines(Instant now);
  Instant earliest_deadline() const;
  void handed_out();

 private:
  absl::Status post(bool write, const RemoteSpan& remote, const LocalSpan& local, Tag tag, Instant deadline);
  void complete(const LoopbackRequest& request, absl::StatusCode code);
  void break_now(Instant now);

  LoopbackTransport& transport_;
  const Address peer_;
  const uint64_t id_;
  std::shared_ptr<LoopbackNode> target_;  // Found at the first post.
  std::map<uint64_t, LoopbackRequestPtr> outstanding_;  // By sequence, so that failures come in the order of posting.
  uint64_t next_sequence_ = 0;
  size_t in_flight_ = 0;
  bool broken_ = false;
};

}  // namespace cenote::fabric
