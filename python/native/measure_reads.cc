#include "measure_reads.h"

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "completions.h"

namespace cenote::native {
namespace {

constexpr uint64_t kReadBytes = kMiB;
constexpr uint64_t kSmallBytes = 4 * kKiB;
constexpr size_t kReadsInFlight = 4;
constexpr size_t kSmallReads = 50;

class Measurement {
 public:
  Measurement(fabric::Transport& transport, fabric::Endpoint& endpoint, fabric::MemoryRegion& region, const Grant& grant, Duration read_timeout)
      : transport_(transport), endpoint_(endpoint), region_(region), grant_(grant), read_timeout_(read_timeout) {}

  absl::StatusOr<double> latency_us() {
    std::vector<double> each;
    const BlockGrant& block = grant_.blocks.front();
    for (size_t i = 0; i <= kSmallReads; ++i) {  // The first connects.
      const Instant begin = monotonic_now();
      CENOTE_RETURN_IF_ERROR(post(block.offset_bytes, std::min<uint64_t>(kSmallBytes, block.size_bytes), 0));
      while (endpoint_.in_flight() > 0) CENOTE_RETURN_IF_ERROR(drain());
      if (i > 0) each.push_back((monotonic_now() - begin).seconds() * 1e6);
    }
    std::nth_element(each.begin(), each.begin() + each.size() / 2, each.end());
    return each[each.size() / 2];
  }

  absl::StatusOr<uint64_t> read_for(Duration at_most) {
    uint64_t bytes = 0;
    size_t slot = 0;
    const Instant until = monotonic_now() + at_most;
    while (true) {
      for (const BlockGrant& block : grant_.blocks) {
        for (uint64_t at = 0; at < block.size_bytes; at += kReadBytes) {
          if (monotonic_now() >= until) {
            while (endpoint_.in_flight() > 0) CENOTE_RETURN_IF_ERROR(drain());
            return bytes;
          }
          const uint64_t size = std::min<uint64_t>(kReadBytes, block.size_bytes - at);
          while (endpoint_.in_flight() >= kReadsInFlight) CENOTE_RETURN_IF_ERROR(drain());
          CENOTE_RETURN_IF_ERROR(post(block.offset_bytes + at, size, slot));
          slot = (slot + 1) % kReadsInFlight;
          bytes += size;
        }
      }
    }
  }

 private:
  // Two reads may share a slot for a moment: completions come in any order. Nobody looks at the bytes.
  absl::Status post(uint64_t offset, uint64_t size, size_t slot) {
    return endpoint_.read({{grant_.region_key, grant_.region_base}, offset, size}, {&region_, slot * kReadBytes, size}, slot,
                          monotonic_now() + read_timeout_);
  }
  absl::Status drain() { return take_completions(transport_, "a read failed"); }

  fabric::Transport& transport_;
  fabric::Endpoint& endpoint_;
  fabric::MemoryRegion& region_;
  const Grant& grant_;
  const Duration read_timeout_;
};

}  // namespace

absl::StatusOr<ReadSpeed> measure_reads(fabric::Transport& transport, const ReadableServer& server, std::span<const BlockRef> blocks,
                                        Duration at_most, Duration read_timeout) {
  std::vector<Digest> ids;
  for (const BlockRef& block : blocks) ids.push_back(block.id);
  const Instant asked = monotonic_now();
  CENOTE_ASSIGN_OR_RETURN(const Grant grant, server.grant(ids));
  if (grant.blocks.empty()) return absl::NotFoundError(str_cat(server.info.name, " holds none of the ", blocks.size(), " blocks asked for"));
  std::vector<std::byte> bytes(kReadsInFlight * kReadBytes);
  CENOTE_ASSIGN_OR_RETURN(const auto region, transport.register_memory(bytes, fabric::Access::kLocal));
  CENOTE_ASSIGN_OR_RETURN(const auto endpoint, transport.connect({server.info.fabric_provider, server.info.fabric_address}));
  Measurement measurement(transport, *endpoint, *region, grant, read_timeout);
  ReadSpeed speed;
  CENOTE_ASSIGN_OR_RETURN(speed.latency_us, measurement.latency_us());
  const Duration granted = asked + grant.duration - monotonic_now();
  const Instant begin = monotonic_now();
  CENOTE_ASSIGN_OR_RETURN(speed.bytes, measurement.read_for(std::min(at_most, Duration{granted.ns / 2})));
  speed.gb_per_s = static_cast<double>(speed.bytes) * 1e-9 / std::max((monotonic_now() - begin).seconds(), 1e-6);
  return speed;
}

}  // namespace cenote::native
