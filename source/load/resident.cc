#include "load/resident.h"

#include <mutex>

#include "base/status.h"
#include "load/gate_copied.h"
#include "load/gate_mapped.h"

namespace cenote::load {
namespace {

absl::StatusOr<std::string> read_manifest(cache::CacheView& view, const Acquired& acquired) {
  if (acquired.manifest_bytes > kManifestBytesMax) {
    return absl::InvalidArgumentError(str_cat("a manifest of ", acquired.manifest_bytes, " bytes; at most ", kManifestBytesMax));
  }
  CENOTE_ASSIGN_OR_RETURN(const cache::Mapping mapping, cache::Mapping::map(view, acquired.manifest));
  std::string bytes;
  bytes.reserve(acquired.manifest_bytes);
  uint64_t offset = 0;
  for (const CacheExtent& extent : acquired.manifest) {
    if (!view.arrived(extent)) return absl::DataLossError("the agent gave out a manifest that has not arrived");
    bytes.append(reinterpret_cast<const char*>(mapping.bytes().data()) + offset, extent.size_bytes);
    offset += round_up(extent.size_bytes, kBlockAlignBytes);
  }
  if (bytes.size() != acquired.manifest_bytes) {
    return absl::DataLossError(str_cat("manifest of ", bytes.size(), " bytes, ", acquired.manifest_bytes, " were announced"));
  }
  return bytes;
}

absl::Status check_extents(const Manifest& manifest, const std::vector<CacheExtent>& extents) {
  bool same = manifest.blocks.size() == extents.size();
  for (size_t i = 0; same && i < extents.size(); ++i) same = manifest.blocks[i].ref.size_bytes == extents[i].size_bytes;
  if (same) return absl::OkStatus();
  return absl::DataLossError(str_cat("the manifest lists ", manifest.blocks.size(), " blocks, the agent gave ", extents.size(),
                                     " extents, or their sizes differ"));
}

class Resident final : public ResidentRevision {
 public:
  Resident(const Digest& revision, Manifest manifest, device::Device& device)
      : revision_(revision), manifest_(std::move(manifest)), device_(device) {}

  ~Resident() override {
    mapped_.reset();
    copied_.reset();  // Its copies end before their target is given away.
    mapping_.reset();
    if (reserved_) device_.release(weights_);
  }

  absl::Status start(const Acquired& acquired, cache::CacheView& view, const LoadOptions& options, WantCallback want) {
    const Instant begin = monotonic_now();
    stats_.cached_bytes = acquired.cached_bytes;
    CENOTE_ASSIGN_OR_RETURN(auto mapping, cache::Mapping::map(view, acquired.weights));
    mapping_ = std::make_unique<cache::Mapping>(std::move(mapping));
    CENOTE_CHECK(mapping_->bytes().size() == manifest_.range_bytes());
    std::vector<Group> groups = plan_groups(manifest_, options.group);
    if (device_.maps_host_memory()) {
      weights_ = {static_cast<device::DeviceAddress>(reinterpret_cast<uint64_t>(mapping_->bytes().data())), mapping_->bytes().size()};
      mapped_ = std::make_unique<MappedGate>(revision_, view, *mapping_, manifest_.blocks, acquired.weights, std::move(groups),
                                             std::move(want));
      stats_.copy = monotonic_now() - begin;
      return absl::OkStatus();
    }
    if (manifest_.range_bytes() > 0) {
      CENOTE_ASSIGN_OR_RETURN(weights_, device_.reserve(manifest_.range_bytes()));
      reserved_ = true;
    }
    CENOTE_ASSIGN_OR_RETURN(auto stream, device_.open_stream());
    copied_ = std::make_unique<CopiedGate>(revision_, view, *mapping_, manifest_.blocks, acquired.weights, std::move(groups), weights_,
                                           std::move(stream), std::move(want));
    return absl::OkStatus();
  }

  const Digest& revision() const override { return revision_; }
  const Manifest& manifest() const override { return manifest_; }
  device::DeviceSpan weights() const override { return weights_; }
  device::WeightGate& gate() override {
    if (mapped_ != nullptr) return *mapped_;
    return *copied_;
  }

  Readiness readiness() const override {
    if (mapped_ != nullptr ? mapped_->populated() : copied_->complete()) {
      return mapped_ != nullptr ? Readiness::kMapped : Readiness::kResident;
    }
    const std::lock_guard lock(mutex_);
    if (!status_.ok()) return Readiness::kFailed;
    return fetched_ || (mapped_ != nullptr && mapped_->complete()) ? Readiness::kCached : Readiness::kLoading;
  }

  absl::Status status() const override {
    const std::lock_guard lock(mutex_);
    return status_;
  }

  absl::Status wait_ready(Instant deadline) override {
    if (mapped_ != nullptr) return mapped_->wait_populated(deadline);
    return copied_->wait_complete(deadline);
  }

  void fetch_done(const FetchDone& done) override {
    const std::lock_guard lock(mutex_);
    status_ = done.status;
    fetched_ = done.status.ok();
    stats_.network = done.network;
    stats_.verify = done.verify;
    stats_.network_bytes = done.bytes;
    stats_.refetched = done.refetched;
  }

  void release_cache() override {
    CENOTE_CHECK(copied_ != nullptr && copied_->complete());
    mapping_.reset();
  }

  LoadStats stats() const override {
    const std::lock_guard lock(mutex_);
    LoadStats stats = stats_;
    if (copied_ != nullptr) {
      const CopyStats copied = copied_->stats();
      stats.copy = copied.elapsed;
      stats.copied_bytes = copied.bytes;
    }
    return stats;
  }

  void set_resolve(Duration duration) { stats_.resolve = duration; }

 private:
  const Digest revision_;
  const Manifest manifest_;
  device::Device& device_;
  std::unique_ptr<cache::Mapping> mapping_;
  std::unique_ptr<MappedGate> mapped_;
  std::unique_ptr<CopiedGate> copied_;
  device::DeviceSpan weights_;
  bool reserved_ = false;
  mutable std::mutex mutex_;
  absl::Status status_;
  bool fetched_ = false;
  LoadStats stats_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ResidentRevision>> ResidentRevision::map(const Digest& revision, const Acquired& acquired,
                                                                        cache::CacheView& view, device::Device& device,
                                                                        const LoadOptions& options, WantCallback want) {
  CENOTE_RETURN_IF_ERROR(acquired.status);
  const Instant begin = monotonic_now();
  CENOTE_ASSIGN_OR_RETURN(const std::string bytes, read_manifest(view, acquired));
  CENOTE_ASSIGN_OR_RETURN(Manifest manifest, decode_manifest(bytes));
  CENOTE_RETURN_IF_ERROR(check_extents(manifest, acquired.weights));
  auto resident = std::make_unique<Resident>(revision, std::move(manifest), device);
  resident->set_resolve(monotonic_now() - begin);
  CENOTE_RETURN_IF_ERROR(resident->start(acquired, view, options, std::move(want)));
  return resident;
}

}  // namespace cenote::load
