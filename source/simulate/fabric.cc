#include "simulate/fabric.h"

#include <algorithm>

#include "base/status.h"
#include "simulate/memory_node.h"

namespace cenote::simulate {
namespace {

// Cut off longer than any operation's own deadline: the deadline decides.
constexpr Duration kNever = Duration::from_seconds(600);

class SimulatedRegion final : public fabric::MemoryRegion {
 public:
  std::span<std::byte> bytes() const override { return {}; }
  fabric::RegionKey key() const override { return {}; }
};

}  // namespace

class SimulatedEndpoint final : public fabric::Endpoint {
 public:
  SimulatedEndpoint(SimulatedTransport& transport, PlaceId peer) : transport_(transport), peer_(peer), id_(transport.next_endpoint_++) {
    transport_.endpoints_[id_] = this;
  }
  ~SimulatedEndpoint() override { transport_.endpoints_.erase(id_); }

  absl::Status read(fabric::RemoteSpan source, fabric::LocalSpan target, fabric::Tag tag, Instant deadline) override {
    if (broken_) return absl::UnavailableError("the endpoint is broken");
    if (flying_.size() >= fabric::kOperationsPerEndpointMax) return absl::ResourceExhaustedError("too many operations in flight");
    CENOTE_CHECK(source.size_bytes == target.size_bytes && source.size_bytes > 0);
    flying_[tag] = target.offset_bytes;
    World& world = transport_.owner_.world();
    Network& network = transport_.owner_.network();
    using Result = absl::StatusOr<std::vector<Chunk>>;
    const auto known = [transport = &transport_, id = id_]() -> SimulatedEndpoint* {
      const auto found = transport->endpoints_.find(id);
      return found == transport->endpoints_.end() ? nullptr : found->second;
    };
    network.call<Result>(
        transport_.owner_, peer_, 64, kNever,
        [source](Process& server, const Network::Answer<Result>& answer) {
          Result chunks = static_cast<MemoryNode&>(server).read(source.region.key, source.offset_bytes, source.size_bytes);
          World& world = server.world();
          if (chunks.ok()) {
            for (Chunk& chunk : *chunks) chunk.corrupt |= world.draw(1000) < server.network().corrupt_per_mille;
          }
          answer(std::move(chunks), source.size_bytes);
        },
        [known, tag](Result chunks) {
          if (SimulatedEndpoint* self = known()) self->arrived(tag, std::move(chunks));
        });
    network.later(transport_.owner_, std::max(Duration{}, deadline - world.now()), [known, tag] {
      SimulatedEndpoint* self = known();
      if (self != nullptr && self->flying_.contains(tag)) self->break_now(tag, absl::StatusCode::kDeadlineExceeded);
    });
    return absl::OkStatus();
  }
  absl::Status write(fabric::RemoteSpan, fabric::LocalSpan, fabric::Tag, Instant) override { return absl::UnimplementedError("agents only read"); }
  bool broken() const override { return broken_; }
  size_t in_flight() const override { return flying_.size(); }

 private:
  void arrived(fabric::Tag tag, absl::StatusOr<std::vector<Chunk>> chunks) {
    const auto target = flying_.find(tag);
    if (target == flying_.end()) return;
    if (!chunks.ok()) return break_now(tag, absl::StatusCode::kUnavailable);
    uint64_t offset = target->second;
    for (const Chunk& chunk : *chunks) {
      transport_.target_.write(offset, chunk);
      offset += chunk.size_bytes;
    }
    flying_.erase(target);
    transport_.ready_.push_back({tag, absl::StatusCode::kOk});
  }
  // One operation failed: the others end with it.
  void break_now(fabric::Tag tag, absl::StatusCode code) {
    broken_ = true;
    for (const auto& [other, offset] : std::exchange(flying_, {})) {
      transport_.ready_.push_back({other, other == tag ? code : absl::StatusCode::kUnavailable});
    }
  }

  SimulatedTransport& transport_;
  const PlaceId peer_;
  const uint64_t id_;
  bool broken_ = false;
  std::map<fabric::Tag, uint64_t> flying_;   // -> where its bytes go.
};

absl::StatusOr<std::unique_ptr<fabric::MemoryRegion>> SimulatedTransport::register_memory(std::span<std::byte>, fabric::Access) {
  return std::make_unique<SimulatedRegion>();
}

absl::StatusOr<std::unique_ptr<fabric::Endpoint>> SimulatedTransport::connect(const fabric::Address& peer) {
  return std::make_unique<SimulatedEndpoint>(*this, owner_.network().find(peer.bytes));
}

size_t SimulatedTransport::poll(std::span<fabric::Completion> completions) {
  size_t count = 0;
  for (; count < completions.size() && !ready_.empty(); ++count) {
    completions[count] = ready_.front();
    ready_.pop_front();
  }
  return count;
}

}  // namespace cenote::simulate
