// fabric/transport.h - one-sided reads and writes between registered memory of processes.
//
// A Transport is loop-affine: after construction, only the thread that polls it may call it, its regions and its
// endpoints. wake() alone may come from any thread. Regions and endpoints must be destroyed before their Transport.
// The provider makes progress only inside poll() and wait(): a target that does neither hangs its readers, so a memory
// server's fabric thread stands in wait() all its life (libfabric 1.17 progress is manual whatever is advertised).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace cenote::fabric {

using Tag = uint64_t;  // The caller's; handed back in the Completion.

// What peers may do to a region. Local use as source and target of one's own operations is always allowed.
enum class Access : uint8_t { kLocal = 0, kRemoteRead = 1, kRemoteWrite = 2, kRemoteReadWrite = 3 };

// What a peer needs to name a region: the provider's key, and the base that FI_MR_VIRT_ADDR providers add (else 0).
struct RegionKey {
  uint64_t key = 0;
  uint64_t base = 0;
};

// Where a Transport can be reached: provider name and opaque bytes (at most 256).
struct Address {
  std::string provider;
  std::string bytes;
  bool operator==(const Address&) const = default;
};
inline constexpr size_t kAddressBytesMax = 256;

// "tcp;ofi_rxm 10.0.0.1:7711"; for messages and logs. Any bytes: what is not a socket address is shown in hexadecimal.
std::string describe(const Address& address);

// Registered bytes, borrowed; unregistered on destruction, after which remote operations on it fail. Must outlive every
// transfer in it.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual std::span<std::byte> bytes() const = 0;
  virtual RegionKey key() const = 0;
};

// Offsets count from the region's start.
struct RemoteSpan {
  RegionKey region;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};
struct LocalSpan {
  MemoryRegion* region = nullptr;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

// code: kOk; kUnavailable (peer dead, access refused, endpoint closed); kDeadlineExceeded. The local bytes belong to the
// transport from the post until this arrives. On kDeadlineExceeded or kUnavailable the endpoint is broken: destroy it.
struct Completion {
  Tag tag = 0;
  absl::StatusCode code = absl::StatusCode::kOk;
};

inline constexpr uint64_t kTransferBytesMax = 1ull << 30;    // One read or write.
inline constexpr size_t kOperationsPerEndpointMax = 256;     // In flight; one more is kResourceExhausted.
inline constexpr size_t kOperationsPerTransportMax = 4096;   // Over all its endpoints.

// Counted since the Transport was opened. Bytes count operations that completed with kOk.
struct FabricStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t failed = 0;             // Operations that ended in kUnavailable or kDeadlineExceeded.
  uint64_t deadlines = 0;          // Those among them whose own deadline passed.
  uint64_t endpoints_broken = 0;
  uint64_t refused = 0;            // Errors at the serving side: bad keys, ranges, peers that vanished.
};

// A connection to one peer. One per target server, so that one bad access breaks nobody else's transfers.
class Endpoint {
 public:
  virtual ~Endpoint() = default;  // Completions of operations still in flight are not delivered; their bytes are safe after.
  // Equal sizes required (CENOTE_CHECK), 1 byte to 1 GiB, inside the local region. Never blocks. `deadline` is this
  // operation's. Ok: exactly one Completion will carry `tag`; an operation that the provider cannot take yet (it is
  // connecting, its queue is full) waits here, so there is no need to post it again.
  // kResourceExhausted: kOperationsPer*Max are in flight; poll and post again; no Completion.
  // kUnavailable: the endpoint is broken; no Completion. kInvalidArgument: above transfer_bytes_max(); no Completion.
  virtual absl::Status read(RemoteSpan source, LocalSpan target, Tag tag, Instant deadline) = 0;
  // Completes when the bytes lie in the memory of the target. That it accepted them where it should is for a checksum to prove.
  virtual absl::Status write(RemoteSpan target, LocalSpan source, Tag tag, Instant deadline) = 0;
  // One operation ended in an error, so this endpoint is closed for good. Those still in flight end in kUnavailable.
  virtual bool broken() const = 0;
  // Accepted and not yet handed out by poll().
  virtual size_t in_flight() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string provider() const = 0;
  virtual Address address() const = 0;
  // `bytes` is borrowed until the region is destroyed. Errors: kResourceExhausted (memlock or key space; says the limit).
  virtual absl::StatusOr<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes, Access access) = 0;
  // Names the peer; may connect lazily, so an absent peer shows as kUnavailable at the first operation.
  // Errors: kInvalidArgument (malformed address or another provider).
  virtual absl::StatusOr<std::unique_ptr<Endpoint>> connect(const Address& peer) = 0;
  // Makes progress, fires deadlines, fills completions; returns how many. Never blocks.
  virtual size_t poll(std::span<Completion> completions) = 0;
  // Blocks until there is something to poll, a deadline is due, wake() is called, or `at_most` has passed; no spinning.
  virtual void wait(Duration at_most) = 0;
  // Ends a wait() in progress or the next one. Any thread.
  virtual void wake() = 0;
  // The largest read or write this provider takes in one operation; at most kTransferBytesMax.
  virtual uint64_t transfer_bytes_max() const { return kTransferBytesMax; }
  virtual FabricStats stats() const { return {}; }
};

struct TransportOptions {
  std::string provider;               // "" = first available of efa, verbs;ofi_rxm, tcp;ofi_rxm. "loopback" = in-process.
  std::string bind_address = "127.0.0.1";  // Host or IP of the interface.
  uint16_t port = 0;                  // 0: chosen by the provider.
  // A peer that takes no operation for this long (absent, stopped, unreachable) breaks its endpoint with kUnavailable; an
  // operation's own deadline may come first.
  Duration connect_timeout = Duration::from_seconds(5);
};

// kUnimplemented names the provider asked for and those present; kAlreadyExists: the port is taken; kInvalidArgument: the
// bind address is not this host's.
absl::StatusOr<std::unique_ptr<Transport>> open_transport(const TransportOptions& options);

}  // namespace cenote::fabric
