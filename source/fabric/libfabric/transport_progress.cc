// Progress, deadlines and sleep of LibfabricTransport.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/status.h"
#include "fabric/libfabric/endpoint.h"
#include "fabric/libfabric/transport.h"

namespace cenote::fabric {
namespace {

constexpr Duration kLookAgainMin = Duration::from_us(50);
constexpr Duration kLookAgainMax = Duration::from_ms(2);
// fi_trywait may refuse sleep a few times in a row (ofi_rxm handles connection events now and then); if it goes on, nap.
constexpr int kRefusalsMax = 512;
constexpr int kServeReadsMax = 64;

// epoll_wait with nanoseconds where the kernel has it (5.11); else rounded up to milliseconds.
int sleep_on(int epoll_fd, epoll_event* events, int events_max, Duration timeout) {
  static bool has_pwait2 = true;
  timeout = std::max(timeout, Duration{});
#ifdef SYS_epoll_pwait2
  if (has_pwait2) {
    timespec ts{.tv_sec = timeout.ns / 1'000'000'000, .tv_nsec = timeout.ns % 1'000'000'000};
    const long found = syscall(SYS_epoll_pwait2, epoll_fd, events, events_max, &ts, nullptr, 0);
    if (found >= 0 || errno != ENOSYS) return static_cast<int>(found);
    has_pwait2 = false;
  }
#endif
  const int64_t ms = std::min<int64_t>((timeout.ns + 999'999) / 1'000'000, 1 << 30);
  return epoll_wait(epoll_fd, events, events_max, static_cast<int>(ms));
}

}  // namespace

void LibfabricTransport::watch(Port& port) {
  ports_.push_back(&port);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &port}};
  if (port.wait_fd < 0 || epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, port.wait_fd, &event) != 0) pollable_ = false;
}

void LibfabricTransport::unwatch(Port& port) {
  std::erase(ports_, &port);
  if (port.wait_fd >= 0) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, port.wait_fd, nullptr);
}

void LibfabricTransport::forget(LibfabricEndpoint* endpoint) {
  std::erase(endpoints_, endpoint);
  std::erase_if(ready_, [endpoint](const Ready& ready) { return ready.endpoint == endpoint; });
}

void LibfabricTransport::serve() {
  fi_cq_entry entries[16];
  for (int i = 0; i < kServeReadsMax; ++i) {
    const ssize_t count = fi_cq_read(serving_->queue.get(), entries, std::size(entries));
    if (count > 0) continue;
    if (count != -FI_EAVAIL) return;
    // A peer asked for what it may not have, or vanished. Its connection is gone; the others go on.
    fi_cq_err_entry error{};
    if (fi_cq_readerr(serving_->queue.get(), &error, 0) <= 0) return;
    ++stats_.refused;
  }
}

void LibfabricTransport::progress(Instant now) {
  if (!serving_->armed) serve();
  for (LibfabricEndpoint* endpoint : endpoints_) endpoint->progress(now);
}

size_t LibfabricTransport::poll(std::span<Completion> completions) {
  ExclusiveUse::Scope scope(use_);
  if (ready_.empty()) {
    const bool some_armed = std::any_of(ports_.begin(), ports_.end(), [](const Port* port) { return port->armed; });
    // A wake() seen here belongs to the next wait().
    if (some_armed && sleep({})) wake();
    progress(monotonic_now());
  }
  size_t count = 0;
  while (count < completions.size() && !ready_.empty()) {
    const Ready ready = ready_.front();
    ready_.pop_front();
    ready.endpoint->handed_out();
    completions[count++] = ready.completion;
  }
  return count;
}

Instant LibfabricTransport::next_due(Instant until) const {
  for (const LibfabricEndpoint* endpoint : endpoints_) until = std::min(until, endpoint->next_due());
  return until;
}

bool LibfabricTransport::arm() {
  bool all = true;
  for (Port* port : ports_) {
    if (port->armed || port->wait_fd < 0) continue;
    fid* queue = &port->queue->fid;
    port->armed = fi_trywait(fabric_.get(), &queue, 1) == 0;
    all = all && port->armed;
  }
  return all;
}

bool LibfabricTransport::sleep(Duration timeout) {
  epoll_event events[16];
  const int found = sleep_on(epoll_fd_, events, std::size(events), timeout);
  bool woken = false;
  for (int i = 0; i < found; ++i) {
    if (events[i].data.ptr != nullptr) {
      static_cast<Port*>(events[i].data.ptr)->armed = false;
      continue;
    }
    uint64_t count = 0;
    woken = read(wake_fd_, &count, sizeof count) == sizeof count;
  }
  return woken;
}

void LibfabricTransport::wait(Duration at_most) {
  ExclusiveUse::Scope scope(use_);
  Instant now = monotonic_now();
  const Instant until = now + at_most;
  Duration look_again = kLookAgainMin;
  int refusals = 0;
  for (;;) {
    if (!ready_.empty()) return;
    progress(now);
    if (!ready_.empty()) return;
    now = monotonic_now();
    if (now >= until) return;
    Duration timeout = next_due(until) - now;
    if (!pollable_) {
      timeout = std::min(timeout, look_again);
      look_again = std::min(look_again * 2, kLookAgainMax);
    }
    if (arm()) {
      refusals = 0;
    } else {
      // Something came in since progress(). A wake() must still be seen, so look at the descriptors without sleeping.
      timeout = ++refusals <= kRefusalsMax ? Duration{} : std::min(timeout, kLookAgainMin);
    }
    if (sleep(timeout)) return;
    now = monotonic_now();
  }
}

void LibfabricTransport::wake() {
  const uint64_t one = 1;
  // Fails only if 2^64 - 1 wakes are unread, and then wait() returns anyway.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

}  // namespace cenote::fabric
