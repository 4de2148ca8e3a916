// fabric/faulty/faulty_endpoint.h - the connection of a FaultyTransport to one peer. Begin with faulty.h.
#pragma once

#include "fabric/faulty/faulty.h"

namespace cenote::fabric {

class FaultyEndpoint final : public Endpoint {
 public:
  FaultyEndpoint(FaultyTransport& transport, std::unique_ptr<Endpoint> inner, Address peer);
  ~FaultyEndpoint() override;
  absl::Status read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) override;
  absl::Status write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) override;
  bool broken() const override { return broken_; }
  size_t in_flight() const override { return in_flight_; }

  // For the transport.
  const Address& peer() const { return peer_; }
  void handed_out() { --in_flight_; }
  void break_now(Instant now);

 private:
  absl::Status post(bool write, const RemoteSpan& remote, const LocalSpan& local, Tag tag, Instant deadline);
  // Posts to the inner endpoint if the fault leaves anything to post.
  absl::Status pass_on(FaultyTransport::Operation& operation, uint64_t number, const RemoteSpan& remote, LocalSpan local);

  FaultyTransport& transport_;
  std::unique_ptr<Endpoint> inner_;
  const Address peer_;
  size_t in_flight_ = 0;
  bool broken_ = false;
};

}  // namespace cenote::fabric
