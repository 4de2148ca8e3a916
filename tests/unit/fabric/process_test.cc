// Goal: what processes do to each other - SIGKILL, SIGSTOP, restart, idleness - through real libfabric providers. Timings are
// only bounded from above, and generously.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "serving_target.h"
#include "target_process.h"

namespace cenote::fabric {
namespace {

constexpr size_t kRegionBytes = 4 << 20;

class Processes : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    transport_ = open_for_test(GetParam());
    if (transport_ == nullptr) GTEST_SKIP() << "this host has no provider " << GetParam();
    bytes_.resize(4 * kRegionBytes);
    auto region = transport_->register_memory(bytes_, Access::kLocal);
    ASSERT_TRUE(region.ok()) << region.status();
    local_ = *std::move(region);
  }
  void TearDown() override {
    local_.reset();
    transport_.reset();
  }
  std::unique_ptr<TargetProcess> start(uint16_t port = 0) {
    return std::make_unique<TargetProcess>(CENOTE_FABRIC_TARGET, GetParam(), port, kRegionBytes);
  }
  std::unique_ptr<Endpoint> connect(const TargetProcess& target) {
    auto endpoint = transport_->connect(target.address());
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
    return *std::move(endpoint);
  }
  absl::Status post_read(Endpoint& endpoint, RegionKey key, uint64_t local_offset, uint64_t size, Tag tag, Instant deadline) {
    return endpoint.read({key, 0, size}, {local_.get(), local_offset, size}, tag, deadline);
  }
  absl::StatusCode read(Endpoint& endpoint, RegionKey key, uint64_t size, Instant deadline = in_ms(30'000)) {
    if (const auto posted = post_read(endpoint, key, 0, size, 1, deadline); !posted.ok()) return posted.code();
    const auto got = collect(*transport_, 1);
    return got.size() == 1 ? got[0].code : absl::StatusCode::kUnknown;
  }
  bool holds(uint64_t offset, uint64_t size, uint64_t seed) const {
    for (uint64_t i = 0; i < size; ++i) {
      if (bytes_[offset + i] != pattern_byte(i, seed)) return false;
    }
    return true;
  }
  static bool is_verbs() { return std::string(GetParam()).starts_with("verbs"); }
  // A verbs device serves a stopped process too: what it answered before the kill has succeeded.
  static bool is_end_of_a_killed_target(absl::StatusCode code) {
    return code == absl::StatusCode::kUnavailable || (is_verbs() && code == absl::StatusCode::kOk);
  }
  std::unique_ptr<Transport> transport_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<MemoryRegion> local_;
};

class Networked : public Processes {};
class Tcp : public Processes {};
class Verbs : public Processes {};

TEST_P(Processes, reads_and_writes_reach_another_process) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), kRegionBytes), absl::StatusCode::kOk);
  EXPECT_TRUE(holds(0, kRegionBytes, 1));
  ASSERT_TRUE(endpoint->write({target->writable(), 0, kRegionBytes}, {local_.get(), 0, kRegionBytes}, 2, in_ms(30'000)).ok());
  ASSERT_EQ(collect(*transport_, 1).at(0).code, absl::StatusCode::kOk);
  std::fill(bytes_.begin(), bytes_.end(), std::byte{0});
  ASSERT_EQ(read(*endpoint, target->writable(), kRegionBytes), absl::StatusCode::kOk);
  EXPECT_TRUE(holds(0, kRegionBytes, 1));
}

TEST_P(Networked, sigkill_of_a_target_fails_all_in_flight_long_before_their_deadlines) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  target->signal(SIGSTOP);  // So that all are in flight when it dies.
  constexpr size_t kReads = 8;
  for (Tag tag = 0; tag < kReads; ++tag) {
    ASSERT_TRUE(post_read(*endpoint, target->readable(), tag * (1 << 20), 1 << 20, tag, in_ms(3'600'000)).ok());
  }
  target->kill_and_reap();
  const auto got = collect(*transport_, kReads);
  std::set<Tag> tags;
  for (const Completion& completion : got) {
    EXPECT_TRUE(is_end_of_a_killed_target(completion.code)) << completion.code;
    tags.insert(completion.tag);
  }
  EXPECT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kUnavailable);
  EXPECT_EQ(tags.size(), kReads);
  EXPECT_TRUE(endpoint->broken());
  EXPECT_EQ(endpoint->in_flight(), 0u);
}

TEST_P(Networked, sigkill_of_a_target_while_writing_to_it_ends_in_completions_and_not_in_a_signal) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  target->signal(SIGSTOP);
  for (Tag tag = 0; tag < 4; ++tag) {
    ASSERT_TRUE(endpoint->write({target->writable(), 0, kRegionBytes}, {local_.get(), 0, kRegionBytes}, tag, in_ms(3'600'000)).ok());
  }
  target->kill_and_reap();
  const auto got = collect(*transport_, 4);
  ASSERT_EQ(got.size(), 4u);
  for (const Completion& completion : got) EXPECT_TRUE(is_end_of_a_killed_target(completion.code)) << completion.code;
}

TEST_P(Networked, a_target_killed_while_idle_is_unavailable_at_the_next_read) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  target->kill_and_reap();
  EXPECT_EQ(read(*endpoint, target->readable(), 4096, in_ms(3'600'000)), absl::StatusCode::kUnavailable);
  // A new endpoint to nobody: the provider says "again" for ever. Of TCP we ask the kernel; verbs has only the connect timeout.
  const auto again = connect(*target);
  const Instant start = monotonic_now();
  EXPECT_EQ(read(*again, target->readable(), 4096, in_ms(3'600'000)), absl::StatusCode::kUnavailable);
  if (!is_verbs()) EXPECT_LT((monotonic_now() - start).seconds(), 4) << "not by the connect timeout of 5 s";
}

TEST_P(Networked, a_target_stopped_before_the_first_read_is_unavailable_after_the_connect_timeout) {
  const auto impatient = open_for_test(GetParam(), 0, Duration::from_ms(400));
  std::vector<std::byte> bytes(4096);
  const auto region = *impatient->register_memory(bytes, Access::kLocal);
  const auto target = start();
  target->signal(SIGSTOP);
  const auto endpoint = *impatient->connect(target->address());
  ASSERT_TRUE(endpoint->read({target->readable(), 0, 4096}, {region.get(), 0, 4096}, 1, in_ms(3'600'000)).ok());
  const auto got = collect(*impatient, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].code, absl::StatusCode::kUnavailable);
}

TEST_P(Tcp, strangers_who_connect_and_talk_nonsense_do_not_disturb_a_target) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  const std::string nonsense(4096, 'G');
  for (const size_t said : {0, 1, 100, 4096}) {
    const int stranger = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(::connect(stranger, reinterpret_cast<const sockaddr*>(target->address().bytes.data()),
                        static_cast<socklen_t>(target->address().bytes.size())),
              0);
    EXPECT_EQ(send(stranger, nonsense.data(), said, MSG_NOSIGNAL), static_cast<ssize_t>(said));
    close(stranger);
    EXPECT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk) << said;
    const auto again = connect(*target);
    EXPECT_EQ(read(*again, target->readable(), 4096), absl::StatusCode::kOk) << said;
  }
}

TEST_P(Tcp, a_stopped_target_costs_only_its_own_readers_their_deadline) {
  const auto stopped = start();
  const auto lively = start();
  const auto to_stopped = connect(*stopped);
  const auto to_lively = connect(*lively);
  ASSERT_EQ(read(*to_stopped, stopped->readable(), 4096), absl::StatusCode::kOk);
  stopped->signal(SIGSTOP);
  ASSERT_TRUE(post_read(*to_stopped, stopped->readable(), 0, 1 << 20, 1, in_ms(400)).ok());
  for (Tag tag = 100; tag < 150; ++tag) {
    ASSERT_TRUE(post_read(*to_lively, lively->readable(), kRegionBytes, 1 << 20, tag, in_ms(30'000)).ok());
  }
  for (const Completion& completion : collect(*transport_, 51)) {
    EXPECT_EQ(completion.code, completion.tag == 1 ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kOk) << completion.tag;
  }
  EXPECT_TRUE(to_stopped->broken());
  EXPECT_FALSE(to_lively->broken());
  EXPECT_TRUE(holds(kRegionBytes, 1 << 20, 1));
  stopped->signal(SIGCONT);
  const auto again = connect(*stopped);
  EXPECT_EQ(read(*again, stopped->readable(), 4096), absl::StatusCode::kOk);
}

// Stopped is not dead to a device: that the process hangs is for heartbeats to notice.
TEST_P(Verbs, a_stopped_target_goes_on_serving_those_who_are_connected) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  target->signal(SIGSTOP);
  EXPECT_EQ(read(*endpoint, target->readable(), kRegionBytes), absl::StatusCode::kOk);
  EXPECT_TRUE(holds(0, kRegionBytes, 1));
  EXPECT_FALSE(endpoint->broken());
}

TEST_P(Networked, a_target_restarted_at_its_port_is_reached_by_a_new_endpoint) {
  auto target = start();
  const uint16_t port = target->port();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  target->kill_and_reap();
  EXPECT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kUnavailable);
  target = start(port);
  EXPECT_EQ(target->port(), port);
  const auto again = connect(*target);
  EXPECT_EQ(read(*again, target->readable(), kRegionBytes), absl::StatusCode::kOk);
  EXPECT_TRUE(holds(0, kRegionBytes, 1));
}

TEST_P(Processes, an_idle_target_and_an_idle_reader_use_no_cpu_to_speak_of) {
  const auto target = start();
  const auto endpoint = connect(*target);
  ASSERT_EQ(read(*endpoint, target->readable(), 4096), absl::StatusCode::kOk);
  timespec before{};
  timespec after{};
  const Duration target_before = target->cpu_time();
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  transport_->wait(Duration::from_seconds(1));
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  EXPECT_LT((target->cpu_time() - target_before).ms(), 50) << "the target in wait(), over one second";
  EXPECT_LT(static_cast<double>(after.tv_nsec - before.tv_nsec) * 1e-6 + static_cast<double>(after.tv_sec - before.tv_sec) * 1e3, 50)
      << "the reader in wait(), over one second";
}

// Bytes of this process in memory.
uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total_pages = 0;
  uint64_t resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST_P(Tcp, endpoints_cost_little_memory_since_memory_servers_have_many) {
  const auto target = start();
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  endpoints.push_back(connect(*target));
  ASSERT_EQ(read(*endpoints.back(), target->readable(), kRegionBytes), absl::StatusCode::kOk);
  const uint64_t before = resident_bytes();
  for (int i = 0; i < 10; ++i) {
    endpoints.push_back(connect(*target));
    ASSERT_EQ(read(*endpoints.back(), target->readable(), kRegionBytes), absl::StatusCode::kOk);
  }
  EXPECT_LT(resident_bytes() - before, 10 * (4ull << 20)) << "4 MiB an endpoint; ofi_rxm's defaults take 85";
}

TEST_P(Tcp, waiting_for_a_peer_that_does_not_answer_does_not_spin) {
  const auto target = start();
  target->signal(SIGSTOP);
  const auto endpoint = connect(*target);
  timespec before{};
  timespec after{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  EXPECT_EQ(read(*endpoint, target->readable(), 4096, in_ms(1000)), absl::StatusCode::kDeadlineExceeded);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  EXPECT_LT(static_cast<double>(after.tv_nsec - before.tv_nsec) * 1e-6 + static_cast<double>(after.tv_sec - before.tv_sec) * 1e3, 300);
}

std::string provider_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Providers, Processes, testing::Values("tcp;ofi_rxm", "shm", "verbs;ofi_rxm"), provider_name);
INSTANTIATE_TEST_SUITE_P(Providers, Networked, testing::Values("tcp;ofi_rxm", "verbs;ofi_rxm"), provider_name);
INSTANTIATE_TEST_SUITE_P(Providers, Verbs, testing::Values("verbs;ofi_rxm"), provider_name);
INSTANTIATE_TEST_SUITE_P(Providers, Tcp, testing::Values("tcp;ofi_rxm"), provider_name);

}  // namespace
}  // namespace cenote::fabric
