// What every Transport must do, run over each provider. One fixture, several files by subject.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include "serving_target.h"

namespace cenote::fabric {

inline const auto kProviders = testing::Values("loopback", "tcp;ofi_rxm", "shm", "verbs;ofi_rxm", "faulty:loopback", "faulty:tcp;ofi_rxm");

inline std::string provider_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

class Conformance : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    transport_ = open_for_test(GetParam());
    if (transport_ == nullptr) GTEST_SKIP() << "this host has no provider " << GetParam();
    local_bytes_.assign(kLocalBytes, std::byte{0xee});
    auto region = transport_->register_memory(local_bytes_, Access::kLocal);
    ASSERT_TRUE(region.ok()) << region.status();
    local_ = *std::move(region);
  }
  void TearDown() override {
    local_.reset();
    transport_.reset();
  }

  LocalSpan here(uint64_t offset, uint64_t size) { return {.region = local_.get(), .offset_bytes = offset, .size_bytes = size}; }
  static RemoteSpan there(RegionKey key, uint64_t offset, uint64_t size) {
    return {.region = key, .offset_bytes = offset, .size_bytes = size};
  }
  std::unique_ptr<Endpoint> connect(const Address& peer) {
    auto endpoint = transport_->connect(peer);
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
    return *std::move(endpoint);
  }
  // One operation, its outcome.
  absl::StatusCode read(Endpoint& endpoint, RemoteSpan source, LocalSpan target, Instant deadline = in_ms(20'000)) {
    return outcome(endpoint.read(source, target, 77, deadline));
  }
  absl::StatusCode write(Endpoint& endpoint, RemoteSpan target, LocalSpan source, Instant deadline = in_ms(20'000)) {
    return outcome(endpoint.write(target, source, 77, deadline));
  }
  bool local_holds(uint64_t offset, uint64_t size, uint64_t pattern_offset, uint64_t seed) const {
    for (uint64_t i = 0; i < size; ++i) {
      if (local_bytes_[offset + i] != pattern_byte(pattern_offset + i, seed)) return false;
    }
    return true;
  }
  bool is(const char* provider) const { return std::string(GetParam()).find(provider) != std::string::npos; }

  static constexpr size_t kLocalBytes = 8 << 20;
  std::unique_ptr<Transport> transport_;
  std::vector<std::byte> local_bytes_;
  std::unique_ptr<MemoryRegion> local_;

 private:
  absl::StatusCode outcome(const absl::Status& posted) {
    if (!posted.ok()) return posted.code();
    const std::vector<Completion> got = collect(*transport_, 1);
    if (got.size() != 1) return absl::StatusCode::kUnknown;
    EXPECT_EQ(got[0].tag, 77u);
    return got[0].code;
  }
};

}  // namespace cenote::fabric
