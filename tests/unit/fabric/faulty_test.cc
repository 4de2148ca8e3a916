// Goal: each fault of the plan does what faulty.h says, and the contract of transport.h holds all the same.
#include "fabric/faulty/faulty.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "serving_target.h"

namespace cenote::fabric {
namespace {

constexpr size_t kBytes = 64 << 10;

class Faulty : public testing::Test {
 protected:
  void SetUp() override {
    key_ = target_.add_region(kBytes, Access::kRemoteReadWrite, 1);
    open({});
  }
  void TearDown() override {
    endpoint_.reset();
    region_.reset();
    transport_.reset();
  }
  void open(FaultPlan plan) {
    TearDown();
    transport_ = std::make_unique<FaultyTransport>(open_for_test("loopback"), std::move(plan));
    bytes_.assign(kBytes, std::byte{0});
    region_ = *transport_->register_memory(bytes_, Access::kLocal);
    endpoint_ = *transport_->connect(target_.address());
  }
  absl::Status post_read(Tag tag, Instant deadline = in_ms(20'000)) {
    return endpoint_->read({key_, 0, kBytes}, {region_.get(), 0, kBytes}, tag, deadline);
  }
  absl::StatusCode read(Instant deadline = in_ms(20'000)) {
    if (const auto posted = post_read(1, deadline); !posted.ok()) return posted.code();
    const auto got = collect(*transport_, 1);
    return got.size() == 1 ? got[0].code : absl::StatusCode::kUnknown;
  }
  static int differing_bits(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
    int bits = 0;
    for (size_t i = 0; i < a.size(); ++i) bits += std::popcount(static_cast<unsigned>(a[i] ^ b[i]));
    return bits;
  }

  ServingTarget target_{"loopback"};
  RegionKey key_;
  std::unique_ptr<FaultyTransport> transport_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(Faulty, without_a_plan_nothing_is_changed) {
  EXPECT_EQ(read(), absl::StatusCode::kOk);
  EXPECT_EQ(bytes_, pattern(kBytes, 1));
  EXPECT_EQ(transport_->counts().operations, 1u);
}

TEST_F(Faulty, delay_holds_the_completion_back) {
  open({.at = {{0, {FaultKind::kDelay, Duration::from_ms(150)}}}});
  const Instant start = monotonic_now();
  EXPECT_EQ(read(), absl::StatusCode::kOk);
  EXPECT_GE((monotonic_now() - start).ms(), 149);
  EXPECT_EQ(bytes_, pattern(kBytes, 1));
}

TEST_F(Faulty, a_delay_beyond_the_deadline_is_the_deadline) {
  open({.at = {{0, {FaultKind::kDelay, Duration::from_seconds(3600)}}}});
  EXPECT_EQ(read(in_ms(100)), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(endpoint_->broken());
}

TEST_F(Faulty, error_breaks_the_endpoint_and_a_new_one_works) {
  open({.at = {{1, {FaultKind::kError, {}}}}});
  EXPECT_EQ(read(), absl::StatusCode::kOk);
  EXPECT_EQ(read(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(endpoint_->broken());
  EXPECT_EQ(read(), absl::StatusCode::kUnavailable);
  endpoint_ = *transport_->connect(target_.address());
  EXPECT_EQ(read(), absl::StatusCode::kOk);
}

TEST_F(Faulty, silence_lasts_until_the_deadline) {
  open({.at = {{0, {FaultKind::kSilence, {}}}}});
  const Instant start = monotonic_now();
  EXPECT_EQ(read(start + Duration::from_ms(120)), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE((monotonic_now() - start).ms(), 119);
  EXPECT_EQ(bytes_, std::vector<std::byte>(kBytes));
}

TEST_F(Faulty, corruption_flips_one_bit_of_a_read_and_says_ok) {
  open({.at = {{0, {FaultKind::kCorrupt, {}}}}});
  EXPECT_EQ(read(), absl::StatusCode::kOk);
  EXPECT_EQ(differing_bits(bytes_, pattern(kBytes, 1)), 1);
  EXPECT_EQ(target_.bytes(0), pattern(kBytes, 1)) << "the target's bytes are not ours to change";
}

TEST_F(Faulty, corruption_flips_one_bit_of_a_write_at_the_target_only) {
  open({.at = {{0, {FaultKind::kCorrupt, {}}}}});
  bytes_ = pattern(kBytes, 2);
  region_ = *transport_->register_memory(bytes_, Access::kLocal);
  ASSERT_TRUE(endpoint_->write({key_, 0, kBytes}, {region_.get(), 0, kBytes}, 1, in_ms(20'000)).ok());
  EXPECT_EQ(collect(*transport_, 1).at(0).code, absl::StatusCode::kOk);
  EXPECT_EQ(differing_bits(target_.bytes(0), pattern(kBytes, 2)), 1);
  EXPECT_EQ(bytes_, pattern(kBytes, 2));
}

TEST_F(Faulty, the_death_of_a_peer_takes_all_its_endpoints_until_it_is_revived) {
  ServingTarget other("loopback");
  const RegionKey other_key = other.add_region(kBytes, Access::kRemoteRead, 3);
  const auto to_other = *transport_->connect(other.address());
  target_.pause();
  ASSERT_TRUE(post_read(1).ok());
  ASSERT_TRUE(post_read(2).ok());
  std::thread killer([this] { transport_->kill_peer(target_.address()); });
  for (const Completion& completion : collect(*transport_, 2)) EXPECT_EQ(completion.code, absl::StatusCode::kUnavailable);
  killer.join();
  target_.resume();
  EXPECT_TRUE(endpoint_->broken());
  endpoint_ = *transport_->connect(target_.address());
  EXPECT_EQ(read(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(to_other->read({other_key, 0, kBytes}, {region_.get(), 0, kBytes}, 3, in_ms(20'000)).ok());
  EXPECT_EQ(collect(*transport_, 1).at(0).code, absl::StatusCode::kOk);
  transport_->revive_peer(target_.address());
  endpoint_ = *transport_->connect(target_.address());
  EXPECT_EQ(read(), absl::StatusCode::kOk);
}

TEST_F(Faulty, a_silenced_peer_answers_nothing_until_it_is_revived) {
  transport_->silence_peer(target_.address());
  EXPECT_EQ(read(in_ms(100)), absl::StatusCode::kDeadlineExceeded);
  transport_->revive_peer(target_.address());
  endpoint_ = *transport_->connect(target_.address());
  EXPECT_EQ(read(), absl::StatusCode::kOk);
}

TEST_F(Faulty, chances_may_be_for_one_peer_only_and_delays_have_bounds) {
  FaultPlan plan{.delay_chance = 1, .only = target_.address(), .delay_min = Duration::from_ms(150), .delay_max = Duration::from_ms(160)};
  const auto timed = [&] {
    open(plan);
    const Instant start = monotonic_now();
    EXPECT_EQ(read(), absl::StatusCode::kOk);
    return (monotonic_now() - start).ms();
  };
  EXPECT_GE(timed(), 149);
  plan.delay_min = plan.delay_max = Duration::from_seconds(3600);
  plan.delay_cap = Duration::from_ms(120);
  EXPECT_GE(timed(), 119);  // And ends before the read's deadline.
  plan.delay_cap = Duration{INT64_MAX};
  plan.only = Address{.provider = "loopback", .bytes = "another"};
  timed();
  EXPECT_EQ(transport_->counts().delayed, 0u);
}

TEST_F(Faulty, a_plan_of_chances_repeats_with_its_seed) {
  const auto outcomes = [&](uint64_t seed) {
    open({.seed = seed, .error_chance = 0.3, .corrupt_chance = 0.3});
    std::vector<int> all;
    for (int i = 0; i < 40; ++i) {
      if (endpoint_->broken()) endpoint_ = *transport_->connect(target_.address());
      all.push_back(read() == absl::StatusCode::kOk ? differing_bits(bytes_, pattern(kBytes, 1)) : -1);
    }
    return all;
  };
  const auto first = outcomes(7);
  EXPECT_EQ(first, outcomes(7));
  EXPECT_NE(first, outcomes(8));
  for (const int kind : {-1, 0, 1}) EXPECT_NE(std::count(first.begin(), first.end(), kind), 0) << kind;
}

}  // namespace
}  // namespace cenote::fabric
