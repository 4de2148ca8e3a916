// Goal: a peer gets only what was registered for it, and asking for more costs nobody else anything.
#include "conformance.h"

namespace cenote::fabric {
namespace {

constexpr size_t kRegionBytes = 1 << 20;

// Also runs what follows a failure: the endpoint is broken, says so, and a new one works.
class ConformanceAccess : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped()) return;
    if (is("shm")) GTEST_SKIP() << "shm checks no keys; it is for processes that trust each other";
    target_ = std::make_unique<ServingTarget>(GetParam());
    good_ = target_->add_region(kRegionBytes, Access::kRemoteRead, 5);
  }
  void expect_refused(Endpoint& endpoint, absl::StatusCode code) {
    EXPECT_EQ(code, absl::StatusCode::kUnavailable);
    EXPECT_TRUE(endpoint.broken());
    EXPECT_EQ(endpoint.read(there(good_, 0, 1), here(0, 1), 1, in_ms(1000)).code(), absl::StatusCode::kUnavailable);
    const auto again = connect(target_->address());
    EXPECT_EQ(read(*again, there(good_, 0, 4096), here(0, 4096)), absl::StatusCode::kOk);
    EXPECT_TRUE(local_holds(0, 4096, 0, 5));
  }
  void TearDown() override {
    target_.reset();
    Conformance::TearDown();
  }
  std::unique_ptr<ServingTarget> target_;
  RegionKey good_;
};

TEST_P(ConformanceAccess, a_wrong_key_is_refused) {
  const auto endpoint = connect(target_->address());
  RegionKey wrong = good_;
  wrong.key ^= 0x10100;
  expect_refused(*endpoint, read(*endpoint, there(wrong, 0, 4096), here(0, 4096)));
  EXPECT_EQ(transport_->stats().failed, 1u);
  EXPECT_EQ(transport_->stats().endpoints_broken, 1u);
}

TEST_P(ConformanceAccess, a_read_past_the_end_is_refused) {
  const auto endpoint = connect(target_->address());
  expect_refused(*endpoint, read(*endpoint, there(good_, kRegionBytes - 4095, 4096), here(0, 4096)));
}

TEST_P(ConformanceAccess, a_read_far_outside_is_refused) {
  const auto endpoint = connect(target_->address());
  expect_refused(*endpoint, read(*endpoint, there(good_, 1ull << 40, 4096), here(0, 4096)));
}

TEST_P(ConformanceAccess, an_offset_that_overflows_is_refused_without_being_posted) {
  const auto endpoint = connect(target_->address());
  const auto posted = endpoint->read(there(good_, UINT64_MAX - 10, 4096), here(0, 4096), 1, in_ms(20'000));
  if (posted.ok()) {
    const auto got = collect(*transport_, 1);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].code, absl::StatusCode::kUnavailable);
  } else {
    EXPECT_EQ(posted.code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(ConformanceAccess, a_revoked_region_can_no_longer_be_read) {
  const RegionKey key = target_->add_region(kRegionBytes, Access::kRemoteRead, 6);
  const auto endpoint = connect(target_->address());
  ASSERT_EQ(read(*endpoint, there(key, 0, 4096), here(0, 4096)), absl::StatusCode::kOk);
  target_->drop_region(1);
  expect_refused(*endpoint, read(*endpoint, there(key, 0, 4096), here(0, 4096)));
}

TEST_P(ConformanceAccess, a_local_region_cannot_be_read_by_peers) {
  const RegionKey key = target_->add_region(kRegionBytes, Access::kLocal, 6);
  const auto endpoint = connect(target_->address());
  expect_refused(*endpoint, read(*endpoint, there(key, 0, 4096), here(0, 4096)));
}

TEST_P(ConformanceAccess, a_write_to_a_read_only_region_alters_nothing) {
  const auto endpoint = connect(target_->address());
  // The completion itself may say either (transport.h): what counts is the bytes.
  (void)write(*endpoint, there(good_, 0, 4096), here(0, 4096));
  const auto reader = connect(target_->address());
  EXPECT_EQ(read(*reader, there(good_, 0, 4096), here(0, 4096)), absl::StatusCode::kOk);
  EXPECT_EQ(target_->bytes(0), pattern(kRegionBytes, 5));
}

TEST_P(ConformanceAccess, one_bad_access_does_not_disturb_its_siblings) {
  // A sibling endpoint of the same Transport and one of another Transport, all to the same target, all busy.
  const auto sibling = connect(target_->address());
  const auto other_transport = open_for_test(GetParam());
  std::vector<std::byte> other_bytes(kRegionBytes);
  const auto other_region = other_transport->register_memory(other_bytes, Access::kLocal);
  ASSERT_TRUE(other_region.ok());
  {
    const auto other = other_transport->connect(target_->address());
    ASSERT_TRUE(other.ok());
    const auto bad = connect(target_->address());
    constexpr size_t kReads = 60;
    for (Tag tag = 0; tag < kReads; ++tag) {
      ASSERT_TRUE(sibling->read(there(good_, 0, kRegionBytes), here(0, kRegionBytes), tag, in_ms(30'000)).ok());
      ASSERT_TRUE((*other)
                      ->read(there(good_, 0, kRegionBytes),
                             {.region = other_region->get(), .offset_bytes = 0, .size_bytes = kRegionBytes}, tag, in_ms(30'000))
                      .ok());
    }
    RegionKey wrong = good_;
    wrong.key ^= 0x10100;
    ASSERT_TRUE(bad->read(there(wrong, 0, 4096), here(kRegionBytes, 4096), 1000, in_ms(30'000)).ok());
    for (const Completion& completion : collect(*transport_, kReads + 1)) {
      EXPECT_EQ(completion.code, completion.tag == 1000 ? absl::StatusCode::kUnavailable : absl::StatusCode::kOk) << completion.tag;
    }
    for (const Completion& completion : collect(*other_transport, kReads)) EXPECT_EQ(completion.code, absl::StatusCode::kOk);
    EXPECT_TRUE(bad->broken());
    EXPECT_FALSE(sibling->broken());
    EXPECT_FALSE((*other)->broken());
  }
}

TEST_P(ConformanceAccess, what_is_in_flight_beside_a_bad_access_completes_once_each) {
  const auto endpoint = connect(target_->address());
  RegionKey wrong = good_;
  wrong.key ^= 0x10100;
  for (Tag tag = 0; tag < 20; ++tag) {
    const auto posted = endpoint->read(there(tag == 10 ? wrong : good_, 0, 4096), here(tag * 4096, 4096), tag, in_ms(20'000));
    ASSERT_TRUE(posted.ok() || (absl::IsUnavailable(posted) && tag > 10)) << posted;
    if (!posted.ok()) break;
  }
  const auto got = collect(*transport_, endpoint->in_flight());
  std::vector<int> seen(20);
  for (const Completion& completion : got) {
    ++seen.at(completion.tag);
    if (completion.code == absl::StatusCode::kOk) {
      EXPECT_TRUE(local_holds(completion.tag * 4096, 4096, 0, 5));
    }
    if (completion.tag == 10) {
      EXPECT_EQ(completion.code, absl::StatusCode::kUnavailable);
    }
  }
  for (int count : seen) EXPECT_LE(count, 1);
  EXPECT_EQ(seen[10], 1);
  EXPECT_TRUE(endpoint->broken());
  EXPECT_EQ(endpoint->in_flight(), 0u);
}

TEST_P(Conformance, an_empty_region_is_refused) {
  const auto region = transport_->register_memory({}, Access::kLocal);
  EXPECT_EQ(region.status().code(), absl::StatusCode::kInvalidArgument) << region.status();
}

TEST_P(Conformance, addresses_that_are_none_are_refused) {
  const Address own = transport_->address();
  const Address bad[] = {
      {.provider = "carrier pigeon", .bytes = own.bytes},
      {.provider = own.provider, .bytes = ""},
      {.provider = own.provider, .bytes = own.bytes.substr(0, 3)},
      {.provider = own.provider, .bytes = std::string(kAddressBytesMax + 1, 'x')},
      {.provider = own.provider, .bytes = std::string(100'000, '\0')},
      {.provider = own.provider, .bytes = std::string(16, '\xff')},
  };
  for (const Address& address : bad) {
    const auto endpoint = transport_->connect(address);
    EXPECT_EQ(endpoint.status().code(), absl::StatusCode::kInvalidArgument)
        << address.bytes.size() << " bytes: " << endpoint.status();
  }
}

INSTANTIATE_TEST_SUITE_P(Providers, ConformanceAccess, kProviders, provider_name);

}  // namespace
}  // namespace cenote::fabric
