// native/send_blocks.h - a deploy's bytes to all its memory servers at once: one thread, connection and transport for each.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "deploy_writer.h"
#include "wire/credentials.h"

namespace cenote::native {

struct ServerShare {
  MemoryServerInfo server;
  std::vector<BlockWrite> blocks;
};

// Returns when every server has sealed its share, or with the first error, which names the server; the others are stopped then.
// `progress` is called from the calling thread.
absl::StatusOr<WriteResult> send_blocks(const wire::Identity& identity, std::vector<ServerShare> shares, const WriteOptions& options,
                                        const Progress& progress);

}  // namespace cenote::native
