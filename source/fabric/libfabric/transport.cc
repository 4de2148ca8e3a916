// Opening, registering and connecting. Progress and waiting are in transport_progress.cc.
#include "fabric/libfabric/transport.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/ids.h"
#include "base/status.h"
#include "fabric/libfabric/endpoint.h"
#include "fabric/libfabric/errors.h"
#include "fabric/libfabric/open.h"

namespace cenote::fabric {
namespace {

constexpr int kKeyTries = 4;  // Random 64-bit keys collide once in 2^32 regions; a provider's smaller keys more often.

uint64_t memlock_limit_bytes() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

uint64_t access_flags(Access access) {
  const auto bits = static_cast<uint8_t>(access);
  uint64_t flags = FI_READ | FI_WRITE;
  if ((bits & static_cast<uint8_t>(Access::kRemoteRead)) != 0) flags |= FI_REMOTE_READ;
  if ((bits & static_cast<uint8_t>(Access::kRemoteWrite)) != 0) flags |= FI_REMOTE_WRITE;
  return flags;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> LibfabricTransport::open(const TransportOptions& options) {
  if (options.bind_address == "0.0.0.0" || options.bind_address == "::") {
    return absl::InvalidArgumentError(absl::StrCat("fabric: cannot bind to ", options.bind_address,
                                                   ": peers are told this address, so it must be one interface's"));
  }
  std::unique_ptr<LibfabricTransport> transport(new LibfabricTransport);
  CENOTE_RETURN_IF_ERROR(transport->start(options));
  return transport;
}

absl::StatusOr<std::unique_ptr<Transport>> open_libfabric(const TransportOptions& options) {
  return LibfabricTransport::open(options);
}

absl::Status LibfabricTransport::start(const TransportOptions& options) {
  connect_timeout_ = options.connect_timeout;
  CENOTE_ASSIGN_OR_RETURN(choice_, choose_provider(options));
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return errno_status(errno, "fabric: epoll_create1");
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd_ < 0) return errno_status(errno, "fabric: eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};  // Ports have their address here.
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) return errno_status(errno, "fabric: epoll_ctl");

  fid_fabric* fabric = nullptr;
  if (const int error = fi_fabric(choice_.serving->fabric_attr, &fabric, nullptr); error != 0) {
    return fabric_error(error, absl::StrCat("fabric: opening ", choice_.name));
  }
  fabric_.reset(fabric);
  fid_domain* domain = nullptr;
  if (const int error = fi_domain(fabric, choice_.serving.get(), &domain, nullptr); error != 0) {
    return fabric_error(error, absl::StrCat("fabric: opening a domain of ", choice_.name));
  }
  domain_.reset(domain);

  absl::StatusOr<Port> port = open_port(choice_.serving.get());
  if (!port.ok()) {
    if (absl::IsAlreadyExists(port.status())) return port_taken(options.bind_address, options.port);
    return annotate(port.status(), absl::StrCat("fabric: serving on ", options.bind_address, " port ", options.port));
  }
  serving_.emplace(*std::move(port));
  watch(*serving_);
  return read_own_address();
}

absl::StatusOr<Port> LibfabricTransport::open_port(fi_info* info) {
  Port port;
  fi_av_attr address_attributes{.type = FI_AV_UNSPEC};
  fid_av* addresses = nullptr;
  if (const int error = fi_av_open(domain_.get(), &address_attributes, &addresses, nullptr); error != 0) {
    return fabric_error(error, "fi_av_open");
  }
  port.addresses.reset(addresses);

  fi_cq_attr queue_attributes{
      .size = 2 * kOperationsPerEndpointMax, .format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_FD};
  fid_cq* queue = nullptr;
  if (fi_cq_open(domain_.get(), &queue_attributes, &queue, nullptr) != 0) {
    queue_attributes.wait_obj = FI_WAIT_NONE;  // shm has no descriptors.
    if (const int error = fi_cq_open(domain_.get(), &queue_attributes, &queue, nullptr); error != 0) {
      return fabric_error(error, "fi_cq_open");
    }
  }
  port.queue.reset(queue);
  if (queue_attributes.wait_obj != FI_WAIT_FD || fi_control(&queue->fid, FI_GETWAIT, &port.wait_fd) != 0) port.wait_fd = -1;

  fid_ep* endpoint = nullptr;
  if (const int error = fi_endpoint(domain_.get(), info, &endpoint, nullptr); error != 0) return fabric_error(error, "fi_endpoint");
  port.endpoint.reset(endpoint);
  if (const int error = fi_ep_bind(endpoint, &addresses->fid, 0); error != 0) return fabric_error(error, "fi_ep_bind");
  if (const int error = fi_ep_bind(endpoint, &queue->fid, FI_TRANSMIT | FI_RECV); error != 0) return fabric_error(error, "fi_ep_bind");
  if (const int error = fi_enable(endpoint); error != 0) return fabric_error(error, "fi_enable");
  return port;
}

absl::Status LibfabricTransport::read_own_address() {
  std::string bytes(kAddressBytesMax, '\0');
  size_t size = bytes.size();
  if (const int error = fi_getname(&serving_->endpoint->fid, bytes.data(), &size); error != 0 || size > bytes.size()) {
    return fabric_error(error != 0 ? error : FI_ETOOSMALL, "fi_getname");
  }
  bytes.resize(size);
  address_ = {.provider = choice_.name, .bytes = std::move(bytes)};
  return absl::OkStatus();
}

LibfabricTransport::~LibfabricTransport() {
  CENOTE_CHECK(endpoints_.empty());
  CENOTE_CHECK(regions_ == 0);
  if (serving_.has_value()) unwatch(*serving_);
  serving_.reset();
  if (wake_fd_ >= 0) close(wake_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

uint64_t LibfabricTransport::transfer_bytes_max() const {
  return std::min<uint64_t>(kTransferBytesMax, choice_.serving->ep_attr->max_msg_size);
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> LibfabricTransport::register_memory(std::span<std::byte> bytes, Access access) {
  ExclusiveUse::Scope scope(use_);
  if (bytes.empty()) return absl::InvalidArgumentError("fabric: a region needs at least 1 byte");
  const int mode = choice_.serving->domain_attr->mr_mode;
  const size_t key_bytes = choice_.serving->domain_attr->mr_key_size;
  for (int attempt = 0;; ++attempt) {
    uint64_t key = random_u64();
    if (key_bytes < sizeof key) key &= (1ull << (8 * key_bytes)) - 1;
    if ((mode & FI_MR_PROV_KEY) != 0) key = 0;
    fid_mr* registration = nullptr;
    const int error = fi_mr_reg(domain_.get(), bytes.data(), bytes.size(), access_flags(access), 0, key, 0, &registration, nullptr);
    if (error == -FI_ENOKEY && attempt + 1 < kKeyTries) continue;
    if (error != 0) return registration_error(error, bytes.size(), memlock_limit_bytes(), choice_.name);
    const uint64_t base = (mode & FI_MR_VIRT_ADDR) != 0 ? reinterpret_cast<uint64_t>(bytes.data()) : 0;
    return std::make_unique<LibfabricRegion>(*this, bytes, Fid<fid_mr>(registration), base);
  }
}

absl::StatusOr<std::unique_ptr<Endpoint>> LibfabricTransport::connect(const Address& peer) {
  ExclusiveUse::Scope scope(use_);
  CENOTE_RETURN_IF_ERROR(check_address(peer, choice_.name, choice_.serving->addr_format, address_.bytes.size()));
  CENOTE_ASSIGN_OR_RETURN(Port port, open_port(choice_.connecting.get()));
  fi_addr_t handle = FI_ADDR_UNSPEC;
  if (const int inserted = fi_av_insert(port.addresses.get(), peer.bytes.data(), 1, &handle, 0, nullptr); inserted != 1) {
    return absl::InvalidArgumentError(absl::StrCat("fabric: ", choice_.name, " does not accept the address ", describe(peer)));
  }
  return std::make_unique<LibfabricEndpoint>(*this, std::move(port), handle, peer);
}

}  // namespace cenote::fabric
