// load/server_table.h - the memory servers as the fetcher sees them: endpoints, grants, and who failed lately.
//
// A grant counts from the moment its request was sent; a read is posted only if it must end within it. A server that failed
// is left alone for a while (twice as long each time), and everything it granted is forgotten: it may be another incarnation.
// Loop-affine, as the Transport it connects through.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "fabric/transport.h"
#include "load/fetch_queue.h"
#include "message/record.h"

namespace cenote::load {

struct ServerLimits {
  Duration read_timeout = Duration::from_seconds(2);
  Duration backoff_min = Duration::from_ms(100);
  Duration backoff_max = Duration::from_seconds(2);
};

class ServerTable final : public ReplicaView {
 public:
  ServerTable(fabric::Transport& transport, ServerLimits limits) : transport_(transport), limits_(limits) {}

  // Replaces the list. Returns those whose endpoints are gone (absent, or with another incarnation or address): what flew there has
  // failed.
  std::vector<std::string> set(const std::vector<MemoryServerInfo>& servers);

  Availability availability(const std::string& server, const Digest& block, Instant now) const override;
  bool fresh(const std::string& server, const Digest& block, Instant now) const override;

  // At most one request for grants per server is under way: it may be sent, it was sent.
  bool may_ask(const std::string& server, Instant now) const;
  void asked(const std::string& server, std::vector<Digest> blocks);
  // A reply may leave blocks out that the server is still reading back from its disk: they are asked for again, at once if the reply brought
  // others, else after a while in which other replicas are asked.
  // kUnavailable: the grant is void (another incarnation, sizes that differ); the server counts as failed.
  absl::Status granted(const std::string& server, Instant sent_at, const absl::StatusOr<Grant>& grant, Instant now);

  // Posts the read. The errors are Endpoint::read's; kUnavailable also if it cannot be connected or the grant ended.
  absl::Status read(const std::string& server, const FetchQueue::Work& work, ChunkRun run, fabric::LocalSpan target,
                    fabric::Tag tag, Instant now);
  // Breaks the endpoint and backs off. No read of this server writes any more.
  void fail(const std::string& server, Instant now);
  void succeeded(const std::string& server);
  void clear();  // Ends all endpoints.

  // When the next server may be tried again; infinite if none waits.
  Instant next_retry(Instant now) const;

 private:
  struct Held {
    uint64_t offset_bytes = 0;
    uint32_t size_bytes = 0;
    fabric::RegionKey region;
    Instant expires;
    Instant renew_at;
    Duration margin;  // What must be left of it for another read.
  };
  struct Server {
    MemoryServerInfo info;
    std::unique_ptr<fabric::Endpoint> endpoint;
    std::map<Digest, Held> held;
    std::map<Digest, Instant> missing_until;
    std::vector<Digest> asked;
    bool asking = false;
    Instant retry_at;
    Duration backoff;
  };

  fabric::Transport& transport_;
  const ServerLimits limits_;
  std::map<std::string, Server> servers_;
};

}  // namespace cenote::load
