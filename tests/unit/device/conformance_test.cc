// Goal: every kind of device keeps the promises of device.h; one body runs against each.
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <vector>

#include "device/device.h"

namespace cenote::device {
namespace {

Instant soon() { return monotonic_now() + Duration::from_seconds(20); }

class DeviceConformance : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto opened = open_device({.name = GetParam(), .memory_bytes = 16 << 20, .copy_gb_per_s = 10, .copy_latency = Duration::from_us(5)});
    ASSERT_TRUE(opened.ok()) << opened.status();
    device_ = *std::move(opened);
  }
  // Memory that the device computes on, as load/ gets it.
  DeviceSpan memory(uint64_t bytes) {
    if (!device_->maps_host_memory()) {
      auto span = device_->reserve(bytes);
      EXPECT_TRUE(span.ok()) << span.status();
      reserved_.push_back(*span);
      return *span;
    }
    host_.emplace_back(bytes);
    return {static_cast<DeviceAddress>(reinterpret_cast<uint64_t>(host_.back().data())), bytes};
  }
  void TearDown() override {
    for (const DeviceSpan span : reserved_) device_->release(span);
  }
  static void drain(Stream& stream, size_t count, std::vector<uint64_t>& tags) {
    const Instant deadline = soon();
    while (tags.size() < count && monotonic_now() < deadline) {
      uint64_t some[3];
      const size_t n = stream.poll(some);
      tags.insert(tags.end(), some, some + n);
      if (n == 0) stream.wait(deadline);
    }
  }

  std::unique_ptr<Device> device_;
  std::vector<std::vector<std::byte>> host_;
  std::vector<DeviceSpan> reserved_;
};

TEST_P(DeviceConformance, its_name_is_the_one_asked_for) { EXPECT_EQ(device_->name(), GetParam()); }

TEST_P(DeviceConformance, copies_arrive_whole_and_in_order) {
  auto stream = device_->open_stream();
  ASSERT_TRUE(stream.ok());
  const DeviceSpan target = memory(40 * 1000);
  std::vector<std::byte> source(40 * 1000);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + i / 1000);
  for (uint64_t i = 0; i < 40; ++i) {
    const DeviceSpan part{static_cast<DeviceAddress>(static_cast<uint64_t>(target.address) + i * 1000), 1000};
    ASSERT_TRUE((*stream)->copy_in(part, std::span(source).subspan(i * 1000, 1000), i).ok());
  }
  std::vector<uint64_t> tags;
  drain(**stream, 40, tags);
  ASSERT_EQ(tags.size(), 40u);
  for (uint64_t i = 0; i < 40; ++i) EXPECT_EQ(tags[i], i);
  EXPECT_EQ(std::memcmp(reinterpret_cast<void*>(target.address), source.data(), source.size()), 0);
}

TEST_P(DeviceConformance, a_copy_of_another_size_is_refused) {
  auto stream = device_->open_stream();
  const std::vector<std::byte> source(10);
  EXPECT_EQ((*stream)->copy_in(memory(9), source, 1).code(), absl::StatusCode::kInvalidArgument);
  uint64_t tag = 0;
  EXPECT_EQ((*stream)->poll(std::span(&tag, 1)), 0u);
}

TEST_P(DeviceConformance, an_unpolled_stream_is_bounded_and_recovers) {
  auto stream = device_->open_stream();
  const std::vector<std::byte> source(8);
  const DeviceSpan target = memory(8);
  uint64_t posted = 0;
  absl::Status status;
  while (posted < 1'000'000 && (status = (*stream)->copy_in(target, source, posted)).ok()) ++posted;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  std::vector<uint64_t> tags;
  drain(**stream, posted, tags);
  EXPECT_EQ(tags.size(), posted);
  EXPECT_TRUE((*stream)->copy_in(target, source, 0).ok());
}

TEST_P(DeviceConformance, waiting_for_nothing_returns) {
  auto stream = device_->open_stream();
  (*stream)->wait(soon());
}

TEST_P(DeviceConformance, reserving_says_what_is_free_or_that_mapping_is_meant) {
  const auto span = device_->reserve(1ull << 40);
  if (device_->maps_host_memory()) {
    EXPECT_EQ(span.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_EQ(device_->usage().capacity_bytes, 0u);
  } else {
    EXPECT_EQ(span.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(span.status().message()), testing::HasSubstr("the device has 16.0 MiB"));
    const auto most = device_->reserve(12ull << 20);
    ASSERT_TRUE(most.ok());
    const auto more = device_->reserve(12ull << 20);
    EXPECT_EQ(more.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(more.status().message()), testing::HasSubstr("4.0 MiB of 16.0 MiB free"));
    device_->release(*most);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeviceConformance, testing::Values("host:0", "emulated:1"), [](const auto& info) {
  return std::string(info.param).substr(0, std::string(info.param).find(':'));
});

TEST(OpenDevice, what_is_unknown_or_absent_is_named) {
  EXPECT_EQ(open_device({.name = "tpu:0"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_device({.name = "host"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_device({.name = "host:1x"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open_device({.name = "emulated:0"}).status().code(), absl::StatusCode::kInvalidArgument);  // No memory.
  const auto cuda = open_device({.name = "cuda:0"}).status();
  EXPECT_EQ(cuda.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(cuda.message()), testing::HasSubstr("plug-in"));
}

}  // namespace
}  // namespace cenote::device
