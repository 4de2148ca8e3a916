#include "object_reader.h"

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "base/status.h"
#include "completions.h"

namespace cenote::native {
namespace {

constexpr uint64_t kReadBytes = kMiB;
constexpr size_t kReadsInFlight = 4;
// Asked for at once: read within a grant of a second, a server with a disk gives no longer ones, also where the link is slow.
constexpr uint64_t kAskBytes = 16 * kMiB;

struct Wanted {
  const BlockRef* ref = nullptr;
  uint64_t offset_bytes = 0;  // In the object.
  bool there = false;
};

// Reads the granted blocks into `region`. Stops at the first failure: the endpoint is broken then.
absl::Status read_granted(fabric::Transport& transport, const MemoryServerInfo& server, const Grant& grant,
                          std::span<Wanted*> wanted, fabric::MemoryRegion& region, Duration read_timeout, Instant granted_until) {
  CENOTE_ASSIGN_OR_RETURN(auto endpoint, transport.connect({server.fabric_provider, server.fabric_address}));
  const auto drain = [&] { return take_completions(transport, "a read failed"); };
  size_t next = 0;
  for (const BlockGrant& block : grant.blocks) {
    while (next < wanted.size() && wanted[next]->ref->id != block.id) ++next;
    if (next == wanted.size() || block.size_bytes != wanted[next]->ref->size_bytes) {
      return absl::InternalError("it granted blocks that were not asked for");
    }
    for (uint64_t at = 0; at < block.size_bytes; at += kReadBytes) {
      const uint64_t bytes = std::min<uint64_t>(kReadBytes, block.size_bytes - at);
      while (true) {
        while (endpoint->in_flight() >= kReadsInFlight) CENOTE_RETURN_IF_ERROR(drain());
        const absl::Status posted =
            endpoint->read({{grant.region_key, grant.region_base}, block.offset_bytes + at, bytes},
                           {&region, wanted[next]->offset_bytes + at, bytes}, at, std::min(monotonic_now() + read_timeout, granted_until));
        if (posted.ok()) break;
        if (!absl::IsResourceExhausted(posted)) return posted;
        CENOTE_RETURN_IF_ERROR(drain());
      }
    }
  }
  while (endpoint->in_flight() > 0) CENOTE_RETURN_IF_ERROR(drain());
  return absl::OkStatus();
}

// Reads what one grant of `server` covers of what is not there yet and not among those that it does not hold (`missing`). True: it is worth
// asking again; a server that reads blocks back from its disk gives them piece by piece.
absl::StatusOr<bool> read_some(fabric::Transport& transport, const ReadableServer& server, std::span<Wanted> all, fabric::MemoryRegion& region,
                               std::string_view bytes, Duration read_timeout, std::set<Digest>& missing) {
  std::vector<Digest> ids;
  uint64_t asked = 0;
  for (const Wanted& wanted : all) {
    if (wanted.there || asked >= kAskBytes || missing.contains(wanted.ref->id)) continue;
    ids.push_back(wanted.ref->id);
    asked += wanted.ref->size_bytes;
  }
  if (ids.empty()) return false;
  const Instant sent_at = monotonic_now();
  CENOTE_ASSIGN_OR_RETURN(const Grant grant, server.grant(ids));
  missing.insert(grant.missing.begin(), grant.missing.end());
  std::vector<Wanted*> granted;
  size_t next = 0;
  for (Wanted& wanted : all) {
    if (wanted.there || next == grant.blocks.size() || grant.blocks[next].id != wanted.ref->id) continue;
    granted.push_back(&wanted);
    ++next;
  }
  CENOTE_RETURN_IF_ERROR(read_granted(transport, server.info, grant, granted, region, read_timeout, sent_at + grant.duration));
  for (Wanted* wanted : granted) {
    wanted->there = sha256(as_bytes(bytes.substr(wanted->offset_bytes, wanted->ref->size_bytes))) == wanted->ref->id;
    if (!wanted->there) return absl::DataLossError(str_cat("block ", wanted->ref->id.short_hex(), " does not hash to its id"));
  }
  return !granted.empty() || !grant.missing.empty();
}

}  // namespace

absl::StatusOr<std::string> read_object(fabric::Transport& transport, std::span<const ReadableServer> servers,
                                        std::span<const BlockRef> blocks, Duration read_timeout) {
  std::vector<Wanted> all;
  uint64_t size = 0;
  for (const BlockRef& block : blocks) {
    all.push_back({&block, size});
    size += block.size_bytes;
  }
  if (size > kObjectBytesMax) {
    return absl::ResourceExhaustedError(str_cat("an object of ", format_bytes(size), " is larger than ", format_bytes(kObjectBytesMax)));
  }
  std::string bytes(size, '\0');
  if (size == 0) return bytes;
  CENOTE_ASSIGN_OR_RETURN(const auto region,
                          transport.register_memory({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}, fabric::Access::kLocal));
  std::string failures;
  bool corrupt = false;
  for (const ReadableServer& server : servers) {
    std::set<Digest> missing;
    while (true) {
      const auto more = read_some(transport, server, all, *region, bytes, read_timeout, missing);
      if (more.ok() && *more) continue;
      corrupt = corrupt || absl::IsDataLoss(more.status());
      if (!more.ok()) str_append(&failures, "; ", server.info.name, ": ", std::string(more.status().message()));
      break;
    }
  }
  for (const Wanted& wanted : all) {
    if (wanted.there) continue;
    const std::string message = str_cat("block ", wanted.ref->id.short_hex(), " cannot be read from any of ", servers.size(), " memory servers", failures);
    return corrupt ? absl::DataLossError(message) : absl::UnavailableError(message);
  }
  return bytes;
}

}  // namespace cenote::native
