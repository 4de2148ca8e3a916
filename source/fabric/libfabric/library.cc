#include "fabric/libfabric/library.h"

#include <dlfcn.h>
#include <rdma/fabric.h>
#include <rdma/fi_errno.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "fabric/libfabric/operations.h"

namespace cenote::fabric {
namespace {

constexpr const char* kFile = "libfabric.so.1";

// The few functions that the library exports; all else is reached through the objects they make.
struct Library {
  absl::Status status;
  decltype(&::fi_getinfo) getinfo = nullptr;
  decltype(&::fi_freeinfo) freeinfo = nullptr;
  decltype(&::fi_dupinfo) dupinfo = nullptr;
  decltype(&::fi_fabric) fabric = nullptr;
  decltype(&::fi_strerror) strerror = nullptr;
};

void prepare_environment() {
  // The verbs cache of registrations keeps revoked regions readable and read-only ones writable: nobody may have it back.
  setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
  // Without a shared receive context ofi_rxm posts receive buffers to each connection and has its peers send it messages (credits, over
  // verbs). When a connection closes it reads the completions that are left and posts those buffers again, to the endpoint just freed:
  // rxm_close_conn() clears conn->msg_ep, by which rxm_free_rx_buf() would know, only after that (1.17 to 2.0). So a peer that vanished
  // right after it had connected crashed the target. With the shared context buffers go back to what outlives connections, and there
  // are no credits. tcp has it anyway. A device without shared receive queues needs FI_OFI_RXM_USE_SRX=0, and lives with that.
  setenv("FI_OFI_RXM_USE_SRX", "1", 0);
  // ofi_rxm sizes its queues by this times the depth for one peer; the default of 256 exceeds what soft RoCE offers.
  setenv("FI_UNIVERSE_SIZE", "32", 0);
  // ofi_rxm keeps 16 KiB bounce buffers for messages, about 85 MiB of them per endpoint. We send no messages. Its eager limit
  // must equal the buffer's size over verbs; over tcp it can be asked to leave itself out.
  setenv("FI_OFI_RXM_BUFFER_SIZE", "512", 0);
  setenv("FI_OFI_RXM_EAGER_LIMIT", "512", 0);
  setenv("FI_OFI_RXM_TX_SIZE", std::to_string(kOperationsPerEndpointMax).c_str(), 0);
  setenv("FI_OFI_RXM_RX_SIZE", "64", 0);
  setenv("FI_OFI_RXM_ENABLE_PASSTHRU", "1", 0);
  // PSM, and its second generation: no signal handlers of their own, not even while they load.
  setenv("IPATH_NO_BACKTRACE", "1", 0);
  setenv("HFI_NO_BACKTRACE", "1", 0);
}

// PSM's constructors install handlers that end the process with exit code 1, for SIGINT and SIGTERM even. Whatever changes while this
// lives is put back.
class KeptSignals {
 public:
  KeptSignals() {
    for (int number = 1; number < kCount; ++number) known_[number] = ::sigaction(number, nullptr, &before_[number]) == 0;
  }
  ~KeptSignals() {
    for (int number = 1; number < kCount; ++number) {
      struct sigaction now {};
      if (!known_[number] || ::sigaction(number, nullptr, &now) != 0) continue;
      if (now.sa_handler != before_[number].sa_handler) ::sigaction(number, &before_[number], nullptr);
    }
  }

 private:
  static constexpr int kCount = 32;
  struct sigaction before_[kCount] = {};
  bool known_[kCount] = {};
};

template <typename Function>
absl::Status find(void* handle, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("fabric: ", kFile, " has no ", name, ": reinstall libfabric (third_party/install.sh)"));
}

// The first query loads all providers and what those bring; naming one spares asking each of them.
absl::Status load_providers(const Library& library) {
  fi_info* hints = library.dupinfo(nullptr);
  fi_info* found = nullptr;
  if (hints == nullptr) return absl::ResourceExhaustedError("fabric: libfabric has no memory");
  hints->fabric_attr->prov_name = ::strdup("tcp");
  if (library.getinfo(FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION), nullptr, nullptr, 0, hints, &found) == 0) library.freeinfo(found);
  library.freeinfo(hints);
  return absl::OkStatus();
}

absl::Status load(Library& library) {
  // Where the headers came from first: another libfabric may lie in the loader's path.
  void* handle = ::dlopen((std::string(CENOTE_LIBFABRIC_FOLDER "/") + kFile).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) handle = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return absl::UnimplementedError(absl::StrCat("fabric: ", kFile, " does not load: ", ::dlerror(), "; run third_party/install.sh"));
  }
  decltype(&::fi_version) version = nullptr;
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_version", version));
  // The objects are the library's: a newer one only adds to their ends, an older one would lack what the headers promise.
  if (FI_VERSION_LT(version(), FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION))) {
    return absl::UnimplementedError(absl::StrCat("fabric: ", kFile, " is version ", FI_MAJOR(version()), ".", FI_MINOR(version()), ", built for ",
                                                 FI_MAJOR_VERSION, ".", FI_MINOR_VERSION, ": update it, or build Cenote with its headers"));
  }
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_getinfo", library.getinfo));
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_freeinfo", library.freeinfo));
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_dupinfo", library.dupinfo));
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_fabric", library.fabric));
  CENOTE_RETURN_IF_ERROR(find(handle, "fi_strerror", library.strerror));
  return load_providers(library);
}

const Library& loaded() {
  static const Library library = [] {
    prepare_environment();
    const KeptSignals kept;
    Library made;
    made.status = load(made);
    return made;
  }();
  return library;
}

}  // namespace

absl::Status load_libfabric() { return loaded().status; }

}  // namespace cenote::fabric

// What the headers declare and libfabric.so would have defined, had it been linked.
#define CENOTE_HIDDEN __attribute__((visibility("hidden")))
extern "C" {
CENOTE_HIDDEN int fi_getinfo(uint32_t version, const char* node, const char* service, uint64_t flags, const fi_info* hints, fi_info** info) {
  return cenote::fabric::loaded().getinfo(version, node, service, flags, hints, info);
}
CENOTE_HIDDEN void fi_freeinfo(fi_info* info) { cenote::fabric::loaded().freeinfo(info); }
CENOTE_HIDDEN fi_info* fi_dupinfo(const fi_info* info) { return cenote::fabric::loaded().dupinfo(info); }
CENOTE_HIDDEN int fi_fabric(fi_fabric_attr* attributes, fid_fabric** fabric, void* context) {
  return cenote::fabric::loaded().fabric(attributes, fabric, context);
}
CENOTE_HIDDEN const char* fi_strerror(int error) { return cenote::fabric::loaded().strerror(error); }
}
