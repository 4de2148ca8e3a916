// simulate/fabric.h - fabric/transport.h over the simulator's network, so that load/server_table.h runs as it is. Reads take chunks out of
// a memory server's arena and lay them into the reader's Content; a read whose endpoint is closed writes nothing any more.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "fabric/transport.h"
#include "simulate/content.h"
#include "simulate/network.h"

namespace cenote::simulate {

class SimulatedEndpoint;

class SimulatedTransport final : public fabric::Transport {
 public:
  // Both outlive it, and so do all actions of theirs.
  SimulatedTransport(Process& owner, Content& target) : owner_(owner), target_(target) {}

  std::string provider() const override { return "simulated"; }
  fabric::Address address() const override { return {provider(), owner_.name()}; }
  absl::StatusOr<std::unique_ptr<fabric::MemoryRegion>> register_memory(std::span<std::byte> bytes, fabric::Access access) override;
  absl::StatusOr<std::unique_ptr<fabric::Endpoint>> connect(const fabric::Address& peer) override;
  size_t poll(std::span<fabric::Completion> completions) override;
  void wait(Duration) override {}
  void wake() override {}
  bool ready() const { return !ready_.empty(); }

 private:
  friend class SimulatedEndpoint;
  Process& owner_;
  Content& target_;
  std::deque<fabric::Completion> ready_;
  std::map<uint64_t, SimulatedEndpoint*> endpoints_;  // Open ones.
  uint64_t next_endpoint_ = 1;
};

}  // namespace cenote::simulate
