#include "memory/arena.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>

#include "base/status.h"
#include "base/units.h"

namespace cenote::memory {
namespace {

constexpr uint64_t kHugePageBytes = 2 * kMiB;

// A field of /proc/meminfo in its own unit (kB or a count); 0 if absent.
uint64_t meminfo(std::string_view field) {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t value;
  while (file >> key >> value) {
    if (key == field) return value;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

void* map_anonymous(uint64_t size_bytes, int extra_flags) {
  return ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
}

// What `ulimit -l` allows, for people.
std::string memlock_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return format_bytes(limit.rlim_cur);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Arena>> Arena::map(uint64_t size_bytes, HugePages huge_pages) {
  CENOTE_CHECK(size_bytes > 0 && size_bytes <= (uint64_t{1} << 47));
  size_bytes = round_up(size_bytes, kHugePageBytes);
  std::unique_ptr<Arena> arena(new Arena);
  void* base = MAP_FAILED;
  if (huge_pages != HugePages::kOff) {
    base = map_anonymous(size_bytes, MAP_HUGETLB | (21 << MAP_HUGE_SHIFT));
    arena->huge_ = base != MAP_FAILED;
    if (!arena->huge_) {
      const std::string lack =
          str_cat("huge pages: ", meminfo("HugePages_Free:"), " free of the ", size_bytes / kHugePageBytes, " of 2 MiB it needs");
      if (huge_pages == HugePages::kOn) {
        return absl::FailedPreconditionError(str_cat(lack, "; raise vm.nr_hugepages or set huge_pages = \"auto\""));
      }
      arena->notes_.push_back(str_cat(lack, "; using ordinary pages"));
    }
  }
  // Where overcommit is unlimited the system would grant any size, and kill us as it fills.
  const uint64_t total = (meminfo("MemTotal:") + meminfo("SwapTotal:")) * kKiB;
  if (base == MAP_FAILED && total > 0 && size_bytes > total) {
    return absl::ResourceExhaustedError(str_cat("cannot map an arena of ", format_bytes(size_bytes), ": this machine has ",
                                                format_bytes(total), " of memory: lower `capacity`"));
  }
  if (base == MAP_FAILED) base = map_anonymous(size_bytes, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(str_cat("cannot map an arena of ", format_bytes(size_bytes), ": ", std::strerror(errno), "; ",
                                                format_bytes(meminfo("MemAvailable:") * kKiB), " of memory are available: lower `capacity`"));
  }
  arena->bytes_ = {static_cast<std::byte*>(base), size_bytes};
  if (!arena->huge_) {
    if (huge_pages == HugePages::kAuto) ::madvise(base, size_bytes, MADV_HUGEPAGE);  // A hint: refusal changes nothing.
    const uint64_t available = meminfo("MemAvailable:") * kKiB;
    if (available > 0 && available < size_bytes) {
      arena->notes_.push_back(str_cat("memory: the arena may grow to ", format_bytes(size_bytes), ", ", format_bytes(available),
                                      " are available now"));
    }
  }
  // Reads of fork()ed children have no business here, and pinned pages must not turn copy-on-write.
  ::madvise(base, size_bytes, MADV_DONTFORK);
  arena->locked_ = ::mlock2(base, size_bytes, MLOCK_ONFAULT) == 0;
  if (!arena->locked_) {
    arena->notes_.push_back(str_cat("memlock: the arena is not locked (", std::strerror(errno), ", ulimit -l is ", memlock_limit(),
                                    "); its pages may be swapped out"));
  }
  return arena;
}

Arena::~Arena() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace cenote::memory
