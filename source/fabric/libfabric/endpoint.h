// fabric/libfabric/endpoint.h - the connection to one peer: its own fid_ep, queue and deadlines.
//
// An operation is pending (the provider said "again"), posted (the provider has its buffer), then ready (waits to be
// handed out by poll()). Any error closes the fid_ep first and completes everything after, so a buffer is never given back
// while the provider could write into it. libfabric's error entries need not name their operation (shm loses contexts);
// nothing here depends on it.
#pragma once

#include "fabric/libfabric/address_probe.h"
#include "fabric/libfabric/tcp_probe.h"
#include "fabric/libfabric/transport.h"

namespace cenote::fabric {

class LibfabricEndpoint final : public Endpoint {
 public:
  LibfabricEndpoint(LibfabricTransport& transport, Port port, fi_addr_t peer, const Address& address);
  ~LibfabricEndpoint() override;

  absl::Status read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) override;
  absl::Status write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) override;
  bool broken() const override { return broken_; }
  size_t in_flight() const override { return in_flight_; }

  // For the transport.
  void progress(Instant now);
  Instant next_due() const;
  void handed_out() { --in_flight_; }

 private:
  absl::Status post(OperationKind kind, const RemoteSpan& remote, const LocalSpan& local, Tag tag, Instant deadline);
  ssize_t submit(Operation* operation);
  void submit_pending(Instant now);
  void reap(Instant now);
  void check_deadlines(Instant now);
  void note_refused(Instant now);
  bool nobody_listens(Instant now);
  AddressProbe::Answer address_answer();
  void finish(Operation* operation, absl::StatusCode code);
  void close_port();
  // `now`: operations due by then end in kDeadlineExceeded, the rest in kUnavailable.
  void break_now(Instant now);

  LibfabricTransport& transport_;
  Port port_;
  const fi_addr_t peer_;
  const Address address_;
  const std::string peer_name_;
  OperationList pending_;
  OperationList posted_;
  size_t in_flight_ = 0;
  bool broken_ = false;
  Instant earliest_deadline_ = Instant::infinite_future();  // A lower bound; exact after a scan.
  // The provider takes nothing although nothing is posted: since when, and when to try again.
  Instant blocked_since_ = Instant::infinite_future();
  Instant retry_at_{};
  Duration retry_pause_;
  TcpProbe probe_;
  AddressProbe address_probe_;
};

}  // namespace cenote::fabric
