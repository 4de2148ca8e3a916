#include "fabric/libfabric/bare_read.h"

#include <algorithm>
#include <vector>

#include <rdma/fi_rma.h>

#include "base/ids.h"
#include "base/status.h"
#include "fabric/libfabric/errors.h"
#include "fabric/libfabric/provider.h"

namespace cenote::fabric {
namespace {

constexpr int kSleepMs = 1000;
constexpr int kSilenceSecondsMax = 60;

struct Slot {
  fi_context2 context;
};

class BareReaderImpl final : public BareReader {
 public:
  absl::Status start(const TransportOptions& options, const Address& peer, std::span<std::byte> target);
  absl::Status read_all(RegionKey source, uint64_t read_bytes, size_t depth) override;

 private:
  absl::Status reap(std::vector<Slot*>& free);

  Info info_;
  Fid<fid_fabric> fabric_;
  Fid<fid_domain> domain_;
  Fid<fid_av> addresses_;
  Fid<fid_cq> queue_;
  Fid<fid_mr> region_;
  Fid<fid_ep> endpoint_;
  fi_addr_t peer_ = FI_ADDR_UNSPEC;
  std::span<std::byte> target_;
};

// Keeps the object `open` makes, or says which call failed.
template <typename Object, typename Open>
absl::Status opened(Fid<Object>& handle, const char* what, Open open) {
  Object* object = nullptr;
  if (const int error = open(&object); error != 0) return fabric_error(error, what);
  handle.reset(object);
  return absl::OkStatus();
}

absl::Status BareReaderImpl::start(const TransportOptions& options, const Address& peer, std::span<std::byte> target) {
  target_ = target;
  CENOTE_ASSIGN_OR_RETURN(ProviderChoice choice, choose_provider(options));
  info_ = std::move(choice.connecting);
  CENOTE_RETURN_IF_ERROR(check_address(peer, choice.name, info_->addr_format, peer.bytes.size()));
  fi_av_attr address_attributes{.type = FI_AV_UNSPEC};
  fi_cq_attr queue_attributes{.size = 512, .format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_UNSPEC};
  CENOTE_RETURN_IF_ERROR(opened(fabric_, "fi_fabric", [&](fid_fabric** f) { return fi_fabric(info_->fabric_attr, f, nullptr); }));
  CENOTE_RETURN_IF_ERROR(
      opened(domain_, "fi_domain", [&](fid_domain** d) { return fi_domain(fabric_.get(), info_.get(), d, nullptr); }));
  CENOTE_RETURN_IF_ERROR(opened(
      addresses_, "fi_av_open", [&](fid_av** a) { return fi_av_open(domain_.get(), &address_attributes, a, nullptr); }));
  CENOTE_RETURN_IF_ERROR(
      opened(queue_, "fi_cq_open", [&](fid_cq** q) { return fi_cq_open(domain_.get(), &queue_attributes, q, nullptr); }));
  CENOTE_RETURN_IF_ERROR(
      opened(endpoint_, "fi_endpoint", [&](fid_ep** e) { return fi_endpoint(domain_.get(), info_.get(), e, nullptr); }));
  int error = fi_ep_bind(endpoint_.get(), &addresses_->fid, 0);
  if (error == 0) error = fi_ep_bind(endpoint_.get(), &queue_->fid, FI_TRANSMIT | FI_RECV);
  if (error == 0) error = fi_enable(endpoint_.get());
  if (error != 0) return fabric_error(error, "fi_enable");
  CENOTE_RETURN_IF_ERROR(opened(region_, "fi_mr_reg", [&](fid_mr** r) {
    const uint64_t key = (info_->domain_attr->mr_mode & FI_MR_PROV_KEY) != 0 ? 0 : random_u64() & UINT32_MAX;
    return fi_mr_reg(domain_.get(), target.data(), target.size(), FI_READ | FI_WRITE, 0, key, 0, r, nullptr);
  }));
  if (fi_av_insert(addresses_.get(), peer.bytes.data(), 1, &peer_, 0, nullptr) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("fi_av_insert refuses ", describe(peer)));
  }
  return absl::OkStatus();
}

absl::Status BareReaderImpl::reap(std::vector<Slot*>& free) {
  fi_cq_entry entries[64];
  for (int silent = 0; silent < kSilenceSecondsMax; ++silent) {
    const ssize_t count = fi_cq_sread(queue_.get(), entries, std::size(entries), nullptr, kSleepMs);
    if (count == -FI_EAGAIN || count == -FI_EINTR) continue;
    if (count < 0) return absl::UnavailableError(absl::StrCat("bare read: ", fi_strerror(static_cast<int>(-count))));
    for (ssize_t i = 0; i < count; ++i) free.push_back(static_cast<Slot*>(entries[i].op_context));
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("bare read: no completion for ", kSilenceSecondsMax, " s"));
}

absl::Status BareReaderImpl::read_all(RegionKey source, uint64_t read_bytes, size_t depth) {
  std::vector<Slot> slots(depth);
  std::vector<Slot*> free;
  for (Slot& slot : slots) free.push_back(&slot);
  void* descriptor = fi_mr_desc(region_.get());
  uint64_t offset = 0;
  while (offset < target_.size() || free.size() < depth) {
    while (offset < target_.size() && !free.empty()) {
      const uint64_t bytes = std::min<uint64_t>(read_bytes, target_.size() - offset);
      const ssize_t error = fi_read(endpoint_.get(), target_.data() + offset, bytes, descriptor, peer_, source.base + offset,
                                    source.key, &free.back()->context);
      if (error == -FI_EAGAIN) break;
      if (error != 0) return fabric_error(error, "fi_read");
      free.pop_back();
      offset += bytes;
    }
    if (free.size() == depth) {  // Connecting: nothing is in flight to be told of.
      fi_cq_entry entry;
      fi_cq_read(queue_.get(), &entry, 1);
      continue;
    }
    CENOTE_RETURN_IF_ERROR(reap(free));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BareReader>> BareReader::open(const TransportOptions& options, const Address& peer,
                                                             std::span<std::byte> target) {
  auto reader = std::make_unique<BareReaderImpl>();
  CENOTE_RETURN_IF_ERROR(reader->start(options, peer, target));
  return reader;
}

}  // namespace cenote::fabric
