#include "serving_target.h"

#include <array>
#include <utility>

#include "base/status.h"
#include "fabric/faulty/faulty.h"
#include "provider_address.h"

namespace cenote::fabric {

std::vector<std::byte> pattern(size_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = pattern_byte(i, seed);
  return bytes;
}

std::unique_ptr<Transport> open_for_test(const std::string& provider, uint16_t port, Duration connect_timeout) {
  const std::string prefix = "faulty:";
  const bool faulty = provider.starts_with(prefix);
  const std::string address = bind_address_for(provider);
  if (address.empty()) return nullptr;
  auto transport = open_transport({.provider = faulty ? provider.substr(prefix.size()) : provider,
                                   .bind_address = address,
                                   .port = port,
                                   .connect_timeout = connect_timeout});
  if (absl::IsUnimplemented(transport.status())) return nullptr;
  if (!transport.ok()) std::fprintf(stderr, "%s\n", std::string(transport.status().message()).c_str());
  CENOTE_CHECK(transport.ok());
  if (!faulty) return *std::move(transport);
  return std::make_unique<FaultyTransport>(*std::move(transport), FaultPlan{});
}

std::vector<Completion> collect(Transport& transport, size_t count) {
  std::vector<Completion> all;
  std::array<Completion, 32> some;
  const Instant limit = in_ms(30'000);
  while (all.size() < count && monotonic_now() < limit) {
    const size_t got = transport.poll(std::span(some).first(std::min(some.size(), count - all.size())));
    all.insert(all.end(), some.begin(), some.begin() + static_cast<ptrdiff_t>(got));
    if (got == 0) transport.wait(limit - monotonic_now());
  }
  return all;
}

ServingTarget::ServingTarget(const std::string& provider, uint16_t port) : transport_(open_for_test(provider, port)) {
  CENOTE_CHECK(transport_ != nullptr);
  address_ = transport_->address();
  thread_ = std::thread([this] { serve(); });
}

ServingTarget::~ServingTarget() {
  stopping_ = true;
  transport_->wake();
  thread_.join();
  regions_.clear();
}

void ServingTarget::serve() {
  while (!stopping_) {
    transport_->wait(Duration::from_seconds(10));
    std::vector<std::packaged_task<void()>> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks = std::exchange(tasks_, {});
    }
    for (auto& task : tasks) task();
  }
}

void ServingTarget::run(std::function<void()> task) {
  std::packaged_task<void()> packaged(std::move(task));
  std::future<void> done = packaged.get_future();
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(packaged));
  }
  transport_->wake();
  done.get();
}

RegionKey ServingTarget::add_region(size_t size, Access access, uint64_t seed) {
  RegionKey key;
  run([&] {
    Region region{.bytes = pattern(size, seed)};
    auto registered = transport_->register_memory(region.bytes, access);
    CENOTE_CHECK(registered.ok());
    region.region = *std::move(registered);
    key = region.region->key();
    regions_.push_back(std::move(region));
  });
  return key;
}

void ServingTarget::drop_region(size_t index) {
  run([&] { regions_.at(index).region.reset(); });
}

std::vector<std::byte> ServingTarget::bytes(size_t index) {
  std::vector<std::byte> copy;
  run([&] { copy = regions_.at(index).bytes; });
  return copy;
}

void ServingTarget::pause() {
  resumed_ = {};
  std::promise<void> paused;
  auto until = std::make_shared<std::future<void>>(resumed_.get_future());
  std::packaged_task<void()> task([&paused, until] {
    paused.set_value();
    until->wait();
  });
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  transport_->wake();
  paused.get_future().wait();
}

void ServingTarget::resume() { resumed_.set_value(); }

}  // namespace cenote::fabric
