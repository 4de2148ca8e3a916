#include "deploy_writer.h"

#include <algorithm>
#include <memory>
#include <new>
#include <thread>

#include "base/status.h"
#include "completions.h"

namespace cenote::native {
namespace {

constexpr std::align_val_t kStagingAlign{4096};
struct FreeStaging {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, kStagingAlign); }
};

// One slab's worth of blocks and where each lies in it.
struct SlabPlan {
  uint64_t size_bytes = 0;
  std::vector<SealRange> ranges;
};

SlabPlan plan_slab(std::span<const BlockWrite> blocks, uint64_t slab_bytes) {
  SlabPlan plan;
  for (const BlockWrite& block : blocks) {
    const uint64_t offset = round_up(plan.size_bytes, kBlockAlignBytes);
    if (offset + block.ref.size_bytes > slab_bytes) break;
    plan.ranges.push_back({offset, block.ref});
    plan.size_bytes = offset + block.ref.size_bytes;
  }
  return plan;
}

class Writer {
 public:
  Writer(fabric::Transport& transport, SlabServer& server, const WriteOptions& options, const Progress& progress)
      : transport_(transport), server_(server), options_(options), progress_(progress) {}

  absl::StatusOr<WriteResult> run(std::span<const BlockWrite> blocks) {
    uint64_t largest = 0;
    uint64_t total = 0;
    for (const BlockWrite& block : blocks) {
      CENOTE_CHECK(block.source != nullptr && block.ref.size_bytes > 0 && block.ref.size_bytes <= kBlockBytesMax);
      largest = std::max<uint64_t>(largest, block.ref.size_bytes);
      total += round_up(block.ref.size_bytes, kBlockAlignBytes);
    }
    slab_bytes_ = std::min(std::max(options_.slab_bytes, largest), total);
    staging_.reset(new (kStagingAlign) std::byte[std::max<uint64_t>(slab_bytes_, 1)]);
    CENOTE_ASSIGN_OR_RETURN(region_, transport_.register_memory({staging_.get(), slab_bytes_}, fabric::Access::kLocal));
    while (!blocks.empty()) {
      CENOTE_ASSIGN_OR_RETURN(const SlabInfo slab, open_slab(blocks, largest));
      const SlabPlan plan = plan_slab(blocks, slab.size_bytes);
      CENOTE_CHECK(!plan.ranges.empty());
      const uint64_t written_before = written_bytes_;
      const auto sent = fill_and_seal(slab, plan, blocks.first(plan.ranges.size()));
      if (!sent.ok()) {
        server_.abandon(slab);
        if (!absl::IsDataLoss(sent.status()) || ++corrupt_ > options_.corrupt_max) return sent;
        slab_bytes_ = std::max(slab_bytes_ / 2, largest);
        written_bytes_ = written_before;
        continue;
      }
      corrupt_ = 0;
      blocks = blocks.subspan(plan.ranges.size());
    }
    return result_;
  }

 private:
  // The largest slab the server grants for what is left, halving the wish while it refuses; when even one block finds no
  // room, waits for other writers to give theirs back.
  absl::StatusOr<SlabInfo> open_slab(std::span<const BlockWrite> blocks, uint64_t largest) {
    const Instant patience = monotonic_now() + options_.slab_patience;
    while (true) {
      const SlabPlan plan = plan_slab(blocks, slab_bytes_);
      absl::StatusOr<SlabInfo> slab = server_.open(plan.size_bytes, options_.writer);
      if (slab.ok()) {
        if (slab->size_bytes >= plan.size_bytes) return slab;
        server_.abandon(*slab);
        return absl::InternalError(str_cat("asked for a slab of ", format_bytes(plan.size_bytes), ", got ", format_bytes(slab->size_bytes)));
      }
      const bool too_large = absl::IsResourceExhausted(slab.status()) || absl::IsInvalidArgument(slab.status());
      if (too_large && slab_bytes_ > largest) {
        slab_bytes_ = std::max(slab_bytes_ / 2, largest);
        continue;
      }
      if (!absl::IsResourceExhausted(slab.status()) || monotonic_now() > patience) return slab.status();
      if (!report()) return absl::CancelledError("the deploy was interrupted");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

  absl::StatusOr<WriteResult> fill_and_seal(const SlabInfo& slab, const SlabPlan& plan, std::span<const BlockWrite> blocks) {
    // A connection for each slab: its key dies with the seal, and a late write must not break the next slab's.
    CENOTE_ASSIGN_OR_RETURN(auto endpoint, transport_.connect({slab.fabric_provider, slab.fabric_address}));
    for (size_t i = 0; i < blocks.size(); ++i) {
      const uint64_t offset = plan.ranges[i].offset_bytes;
      const uint32_t size = blocks[i].ref.size_bytes;
      blocks[i].source->read(blocks[i].offset_bytes, {staging_.get() + offset, size});
      for (uint64_t at = 0; at < size; at += options_.write_bytes) {
        const uint64_t bytes = std::min<uint64_t>(options_.write_bytes, size - at);
        CENOTE_RETURN_IF_ERROR(post(*endpoint, slab, offset + at, bytes));
      }
      written_bytes_ += size;
      if (!report()) return absl::CancelledError("the deploy was interrupted");
    }
    while (endpoint->in_flight() > 0) CENOTE_RETURN_IF_ERROR(drain());
    endpoint.reset();
    CENOTE_ASSIGN_OR_RETURN(const SealResult sealed, server_.seal(slab, plan.ranges));
    result_.written_bytes += plan.size_bytes;
    result_.deduplicated_bytes += sealed.deduplicated_bytes;
    return result_;
  }

  absl::Status post(fabric::Endpoint& endpoint, const SlabInfo& slab, uint64_t offset, uint64_t bytes) {
    while (true) {
      while (endpoint.in_flight() >= options_.writes_in_flight) CENOTE_RETURN_IF_ERROR(drain());
      const absl::Status posted = endpoint.write({{slab.region_key, slab.region_base}, offset, bytes},
                                                 {region_.get(), offset, bytes}, offset,
                                                 monotonic_now() + options_.write_timeout);
      if (!absl::IsResourceExhausted(posted)) return posted;
      CENOTE_RETURN_IF_ERROR(drain());
    }
  }

  absl::Status drain() {
    CENOTE_RETURN_IF_ERROR(take_completions(transport_, "a write to its slab failed: the server died, fell silent, or closed the slab; "
                                                        "deploy again when it is back"));
    if (!report()) return absl::CancelledError("the deploy was interrupted");
    return absl::OkStatus();
  }

  bool report() { return !progress_ || progress_(written_bytes_); }

  fabric::Transport& transport_;
  SlabServer& server_;
  const WriteOptions& options_;
  const Progress& progress_;
  uint64_t slab_bytes_ = 0;
  uint64_t written_bytes_ = 0;
  uint32_t corrupt_ = 0;  // Slabs since the last good one.
  std::unique_ptr<std::byte[], FreeStaging> staging_;
  std::unique_ptr<fabric::MemoryRegion> region_;
  WriteResult result_;
};

}  // namespace

absl::StatusOr<WriteResult> write_blocks(fabric::Transport& transport, SlabServer& server, std::span<const BlockWrite> blocks,
                                         const WriteOptions& options, const Progress& progress) {
  return Writer(transport, server, options, progress).run(blocks);
}

}  // namespace cenote::native
