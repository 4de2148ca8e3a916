// bin/memory_copies.h - blocks read from other memory servers into this one's arena: grants over gRPC, then one-sided reads, as agents do.
// What is copied, where to and when, node/memory_server.h decides.
//
// Everything happens on the fabric's thread; fetch() may be called from any. Each fetch is answered once, by its deadlines, and then nothing
// writes into its target any more.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "bin/fabric_thread.h"
#include "node/memory_server.h"
#include "wire/memory_client.h"

namespace cenote {

class MemoryCopies {
 public:
  using Answer = std::function<void(node::CopyFetched)>;
  // `blocks` is the arena's; both it and `fabric` outlive this. `answer` comes on the fabric's thread.
  MemoryCopies(FabricThread& fabric, fabric::MemoryRegion& blocks, wire::Identity identity, std::string holder, Answer answer);
  ~MemoryCopies();  // Copies under way are dropped without an answer.
  MemoryCopies(const MemoryCopies&) = delete;
  MemoryCopies& operator=(const MemoryCopies&) = delete;

  void fetch(const node::FetchCopy& copy);

  static constexpr Duration kGrantFor = Duration::from_seconds(10);  // The source may have to read the block back from its disk.
  static constexpr Duration kReadFor = Duration::from_seconds(5);    // Each.
  static constexpr uint64_t kReadBytes = kMiB;                       // One after the other: readers of this server come in between.

 private:
  struct Flight {
    node::FetchCopy copy;
    Instant grant_by;             // To be asked again until then.
    fabric::RemoteSpan from;      // What is still to be read; its place is the last of the target's.
    Instant granted_until;
  };
  struct Source {
    std::string control_address;
    std::shared_ptr<wire::MemoryClient> client;
    std::string fabric_address;
    std::unique_ptr<fabric::Endpoint> endpoint;
  };
  void ask(uint64_t number);
  void granted(fabric::Transport& transport, uint64_t number, Instant sent_at, const absl::StatusOr<Grant>& grant);
  absl::Status connect(fabric::Transport& transport, Source& source, const MemoryServerInfo& info);
  void read_next(uint64_t number);
  void completed(const fabric::Completion& completion);
  void end(uint64_t number, absl::Status status);
  void close(const std::string& server);

  FabricThread& fabric_;
  fabric::MemoryRegion& blocks_;
  const wire::Identity identity_;
  const std::string holder_;
  const Answer answer_;
  std::map<uint64_t, Flight> flights_;       // By number, which is the tag of its read.
  std::map<std::string, Source> sources_;    // By name.
  uint64_t next_ = 1;
  bool ending_ = false;
};

}  // namespace cenote
