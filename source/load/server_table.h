// load/server_table.h - the memory servers as the fetcher sees them: endpoints, grants, and who failed lately.
//
// A grant counts from the moment its request was sent; a read is posted only if it must end within it. A server that failed
// is left alone for a while (twice as long each time), and everything it granted is forgotten: it may be another incarnation.
//
// Silence (base/suspicion.h). A server with reads in flight that completes none for a beat is probed: a read of kProbeBytes of what it granted,
// over an endpoint of its own, so that it does not queue behind them. The probe decides, not the age of a read, which on a slow link may be great:
// the data path's life is measured on the data path, and a stopped process whose NIC serves on is no fault. A call for grants that is not
// answered in silence_max goes on, but others are asked meanwhile.
//
// Slowness is this agent's own view, and passes within seconds: policy/health.h judges slowly and for all. What counts is how long reads take, not
// bytes per second: so many are in flight whoever serves them, and a shared link makes all of them longer alike. Who is slow comes after the others for
// kSlowFor or sixteen of its reads, then is tried again; without that its reads would fill all places and the others would wait behind them.
// Loop-affine, as the Transport it connects through.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/suspicion.h"
#include "fabric/transport.h"
#include "load/fetch_queue.h"
#include "message/record.h"

namespace cenote::load {

struct ServerLimits {
  Duration read_timeout = Duration::from_seconds(2);
  Duration backoff_min = Duration::from_ms(100);
  Duration backoff_max = Duration::from_seconds(2);
  Duration silence_max = Duration::from_ms(120);
  double slow_factor = 4;                           // A mean read is so many times longer than the quickest peer's: slow. 0: nobody is.
  Duration slow_floor = Duration::from_ms(4);       // Nor is who answers within this.
};

class ServerTable final : public ReplicaView {
 public:
  ServerTable(fabric::Transport& transport, ServerLimits limits) : transport_(transport), limits_(limits) {}

  // Replaces the list. Returns those whose endpoints are gone (absent, or with another incarnation or address): what flew there has
  // failed.
  std::vector<std::string> set(const std::vector<MemoryServerInfo>& servers);

  Availability availability(const std::string& server, const Digest& block, Instant now) const override;
  bool fresh(const std::string& server, const Digest& block, Instant now) const override;
  bool avoided(const std::string& server) const override { return avoided_.contains(server); }
  bool slow(const std::string& server, Instant now) const override;
  // Whom the controller does not hear.
  void avoid(std::set<std::string> servers) { avoided_ = std::move(servers); }

  // At most one request for grants per server is under way: it may be sent, it was sent.
  bool may_ask(const std::string& server, Instant now) const;
  void asked(const std::string& server, std::vector<Digest> blocks, Instant now);
  // A reply may leave blocks out that the server is still reading back from its disk: they are asked for again, at once if the reply brought
  // others, else after a while in which other replicas are asked.
  // kUnavailable: the grant is void (another incarnation, sizes that differ); the server counts as failed.
  absl::Status granted(const std::string& server, Instant sent_at, const absl::StatusOr<Grant>& grant, Instant now);

  // Posts the read. The errors are Endpoint::read's; kUnavailable also if it cannot be connected or the grant ended.
  absl::Status read(const std::string& server, const FetchQueue::Work& work, ChunkRun run, fabric::LocalSpan target,
                    fabric::Tag tag, Instant now);
  // Breaks the endpoint and backs off. No read of this server writes any more.
  void fail(const std::string& server, Instant now);
  // One of its reads. `took`: only of reads that are as long as any, for these are compared.
  void succeeded(const std::string& server, std::optional<Duration> took, Instant now);

  // First of all in a round, before completions are taken.
  void awake(Instant now) { silence_.awake(now); }
  // Posts the probes that are due into `scratch` and returns the servers that have fallen silent: fail() them.
  std::vector<std::string> watch(Instant now, fabric::LocalSpan scratch);
  // True: it was a probe's.
  bool probe_ended(const fabric::Completion& completion, Instant now);
  Instant next_watch() const;
  StallCount stalls() const { return silence_.stalls(); }
  static constexpr Duration kSlowFor = Duration::from_seconds(1);  // At least. Older times do not count.
  static constexpr int64_t kSlowForReads = 16;                     // So many of its reads, at least.
  static constexpr uint32_t kTimedMin = 4;                         // Fewer reads say nothing.
  static constexpr uint64_t kProbeBytes = 64;
  static constexpr fabric::Tag kProbeTags = fabric::Tag{1} << 63;  // Reads have smaller ones.
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
    Instant asked_at;
    Instant retry_at;
    Duration backoff;
    size_t flying = 0;
    Instant heard_at;          // Of its data path, while reads fly.
    Duration mean;             // Of its last reads' times, about kTimedOver of them.
    uint32_t timed = 0;        // How many it is of.
    Instant timed_at;          // When the last came.
    Instant slow_until;
    std::unique_ptr<fabric::Endpoint> probe_endpoint;
    fabric::Tag probe = 0;     // Under way. 0: none.
  };
  static constexpr int64_t kTimedOver = 8;
  static constexpr Duration kCompareEvery = Duration::from_ms(1);
  static Instant known_until(const Server& server);
  void time(Server& server, Duration took, Instant now);
  void compare(Instant now);
  void probe(Server& server, Instant now, fabric::LocalSpan scratch);
  void end_probes(Server& server);
  Duration beat() const { return beat_interval(limits_.silence_max); }

  fabric::Transport& transport_;
  const ServerLimits limits_;
  std::map<std::string, Server> servers_;
  std::set<std::string> avoided_;
  Instant compare_at_;
  Suspicion<std::string> silence_;   // Servers with reads in flight.
  std::map<fabric::Tag, std::string> probes_;
  fabric::Tag next_probe_ = kProbeTags;
};

}  // namespace cenote::load
