// Goal: an arena maps what it says, takes pages only when they are written, and says what the system refused.
#include "memory/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/units.h"

namespace cenote::memory {
namespace {

size_t resident_pages(std::span<std::byte> bytes) {
  std::vector<unsigned char> pages(bytes.size() / static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(::mincore(bytes.data(), bytes.size(), pages.data()), 0);
  return static_cast<size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(ArenaTest, the_size_is_rounded_up_to_two_mebibytes_and_every_byte_is_zero_and_writable) {
  const auto arena = Arena::map(3 * kMiB, HugePages::kOff);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const auto bytes = (*arena)->bytes();
  ASSERT_EQ(bytes.size(), 4 * kMiB);
  EXPECT_EQ(bytes[bytes.size() - 1], std::byte{0});
  bytes[bytes.size() - 1] = std::byte{7};
  EXPECT_EQ(bytes[bytes.size() - 1], std::byte{7});
}

TEST(ArenaTest, pages_are_taken_when_written_not_when_mapped) {
  const auto arena = Arena::map(64 * kMiB, HugePages::kOff);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(resident_pages((*arena)->bytes()), 0u);
  (*arena)->bytes()[0] = std::byte{1};
  EXPECT_LE(resident_pages((*arena)->bytes().first(4 * kMiB)), 4 * kMiB / 4096);
  EXPECT_EQ(resident_pages((*arena)->bytes().last(32 * kMiB)), 0u);
}

TEST(ArenaTest, a_size_that_no_machine_has_is_refused_with_size_and_remedy) {
  const auto arena = Arena::map(uint64_t{1} << 46, HugePages::kOff);
  ASSERT_EQ(arena.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(arena.status().message()), testing::AllOf(testing::HasSubstr("64.0 TiB"), testing::HasSubstr("`capacity`")));
}

TEST(ArenaTest, huge_pages_that_are_required_and_absent_are_refused_and_wished_ones_are_noted) {
  const auto wished = Arena::map(uint64_t{1} << 40, HugePages::kAuto);
  if (wished.ok() && (*wished)->huge()) GTEST_SKIP() << "this machine has 1 TiB of huge pages";
  const auto required = Arena::map(uint64_t{1} << 40, HugePages::kOn);
  ASSERT_EQ(required.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(required.status().message()), testing::HasSubstr("vm.nr_hugepages"));
  const auto small = Arena::map(4 * kMiB, HugePages::kAuto);
  ASSERT_TRUE(small.ok());
  if (!(*small)->huge()) {
    EXPECT_THAT((*small)->notes(), testing::Contains(testing::HasSubstr("using ordinary pages")));
  }
}

}  // namespace
}  // namespace cenote::memory
