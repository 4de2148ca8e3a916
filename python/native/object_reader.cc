#include "object_reader.h"

#include <array>

#include "base/hash.h"
#include "base/status.h"

namespace cenote::native {
namespace {

constexpr uint64_t kReadBytes = kMiB;
constexpr size_t kReadsInFlight = 4;

struct Wanted {
  const BlockRef* ref = nullptr;
  uint64_t offset_bytes = 0;  // In the object.
  bool there = false;
};

// Reads the granted blocks into `region`. Stops at the first failure: the endpoint is broken then.
absl::Status read_granted(fabric::Transport& transport, const MemoryServerInfo& server, const Grant& grant,
                          std::span<Wanted*> wanted, fabric::MemoryRegion& region, Duration read_timeout) {
  CENOTE_ASSIGN_OR_RETURN(auto endpoint, transport.connect({server.fabric_provider, server.fabric_address}));
  const auto drain = [&]() -> absl::Status {
    std::array<fabric::Completion, 16> completions;
    size_t count = transport.poll(completions);
    if (count == 0) {
      transport.wait(Duration::from_ms(50));
      count = transport.poll(completions);
    }
    for (size_t i = 0; i < count; ++i) {
      if (completions[i].code != absl::StatusCode::kOk) return absl::Status(completions[i].code, "a read failed");
    }
    return absl::OkStatus();
  };
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
                           {&region, wanted[next]->offset_bytes + at, bytes}, at, monotonic_now() + read_timeout);
        if (posted.ok()) break;
        if (!absl::IsResourceExhausted(posted)) return posted;
        CENOTE_RETURN_IF_ERROR(drain());
      }
    }
  }
  while (endpoint->in_flight() > 0) CENOTE_RETURN_IF_ERROR(drain());
  return absl::OkStatus();
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
    std::vector<Digest> ids;
    for (const Wanted& wanted : all) {
      if (!wanted.there) ids.push_back(wanted.ref->id);
    }
    if (ids.empty()) break;
    const absl::StatusOr<Grant> grant = server.grant(ids);
    absl::Status status = grant.status();
    if (grant.ok()) {
      std::vector<Wanted*> granted;
      size_t next = 0;
      for (Wanted& wanted : all) {
        if (wanted.there || next == grant->blocks.size() || grant->blocks[next].id != wanted.ref->id) continue;
        granted.push_back(&wanted);
        ++next;
      }
      status = read_granted(transport, server.info, *grant, granted, *region, read_timeout);
      for (Wanted* wanted : granted) {
        if (!status.ok()) break;
        wanted->there = sha256(as_bytes(std::string_view(bytes).substr(wanted->offset_bytes, wanted->ref->size_bytes))) == wanted->ref->id;
        if (!wanted->there) {
          corrupt = true;
          status = absl::DataLossError(str_cat("block ", wanted->ref->id.short_hex(), " does not hash to its id"));
        }
      }
    }
    if (!status.ok()) str_append(&failures, "; ", server.info.name, ": ", std::string(status.message()));
  }
  for (const Wanted& wanted : all) {
    if (wanted.there) continue;
    const std::string message = str_cat("block ", wanted.ref->id.short_hex(), " cannot be read from any of ", servers.size(), " memory servers", failures);
    return corrupt ? absl::DataLossError(message) : absl::UnavailableError(message);
  }
  return bytes;
}

}  // namespace cenote::native
