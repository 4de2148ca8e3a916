// native/object_reader.h - reads small objects of the pool (manifests, files) for people's tools: grant, one-sided read, SHA-256.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/units.h"
#include "fabric/transport.h"
#include "message/record.h"

namespace cenote::native {

// A memory server's word on where blocks lie. Blocks; has a deadline of its own.
using Granter = std::function<absl::StatusOr<Grant>(const std::vector<Digest>& ids)>;

struct ReadableServer {
  MemoryServerInfo info;
  Granter grant;
};

inline constexpr uint64_t kObjectBytesMax = 512 * kMiB;

// The blocks' bytes, one after another. Each server is asked in turn for what is still missing; a server that is dead, silent,
// or gives bytes that do not hash to their id is passed over. kUnavailable or kDataLoss: no server was left; says which failed and why.
absl::StatusOr<std::string> read_object(fabric::Transport& transport, std::span<const ReadableServer> servers,
                                        std::span<const BlockRef> blocks, Duration read_timeout);

}  // namespace cenote::native
