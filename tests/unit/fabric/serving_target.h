// A Transport with a thread of its own that stands in wait(): the target of reads and writes in tests.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fabric/transport.h"

namespace cenote::fabric {

// Byte i of the pattern `seed`.
inline std::byte pattern_byte(uint64_t i, uint64_t seed) {
  return static_cast<std::byte>(((i + seed) * 0x9e3779b97f4a7c15ull) >> 56);
}
std::vector<std::byte> pattern(size_t size, uint64_t seed);

// Provider "faulty:x" is x inside a FaultyTransport without faults. Null if this host has no such provider.
std::unique_ptr<Transport> open_for_test(const std::string& provider, uint16_t port = 0,
                                         Duration connect_timeout = Duration::from_seconds(5));

// Polls and waits until `count` completions have come or 30 s are over.
std::vector<Completion> collect(Transport& transport, size_t count);

inline Instant in_ms(int64_t ms) { return monotonic_now() + Duration::from_ms(ms); }

class ServingTarget {
 public:
  explicit ServingTarget(const std::string& provider, uint16_t port = 0);
  ~ServingTarget();

  Transport& transport() { return *transport_; }
  Address address() const { return address_; }
  // Filled with pattern(size, seed). The index counts from 0.
  RegionKey add_region(size_t size, Access access, uint64_t seed);
  void drop_region(size_t index);
  std::vector<std::byte> bytes(size_t index);
  // The thread leaves wait() and serves nobody until resume().
  void pause();
  void resume();

 private:
  struct Region {
    std::vector<std::byte> bytes;
    std::unique_ptr<MemoryRegion> region;
  };
  void run(std::function<void()> task);  // On the serving thread; returns when done.
  void serve();

  std::unique_ptr<Transport> transport_;
  Address address_;
  std::vector<Region> regions_;
  std::mutex mutex_;
  std::vector<std::packaged_task<void()>> tasks_;
  std::promise<void> resumed_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace cenote::fabric
