// Goal: a server whose reads take much longer than its peers' is passed for a while and then tried again; nobody else is.
#include <gtest/gtest.h>

#include "fabric/loopback/loopback.h"
#include "load/server_table.h"

namespace cenote::load {
namespace {

constexpr Instant kStart{1'000'000'000'000};
Duration ms(int64_t n) { return Duration::from_ms(n); }

class ServerTableTest : public testing::Test {
 protected:
  void SetUp() override { make({}); }
  void make(ServerLimits limits) {
    table_.reset();
    table_ = std::make_unique<ServerTable>(*transport_, limits);
    std::vector<MemoryServerInfo> servers;
    for (const char* name : {"a", "b", "c"}) servers.push_back({.name = name, .incarnation = 1});
    table_->set(servers);
  }
  // So many reads, one each millisecond.
  void reads(const std::string& server, int count, Duration took) {
    for (int i = 0; i < count; ++i) table_->succeeded(server, took, now_ = now_ + ms(1));
  }
  bool slow(const std::string& server) const { return table_->slow(server, now_); }

  std::unique_ptr<fabric::Transport> transport_ = *fabric::open_loopback({.provider = "loopback"});
  std::unique_ptr<ServerTable> table_;
  Instant now_ = kStart;
};

TEST_F(ServerTableTest, who_takes_much_longer_than_its_quickest_peer_is_slow_whichever_of_them_is_known_first) {
  reads("a", 8, ms(20));
  EXPECT_FALSE(slow("a")) << "all there is to compare with is itself";
  reads("b", 3, ms(2));
  EXPECT_FALSE(slow("a")) << "three reads say nothing";
  reads("b", 1, ms(2));
  EXPECT_TRUE(slow("a"));
  reads("c", 4, ms(7));
  EXPECT_FALSE(slow("b"));
  EXPECT_FALSE(slow("c")) << "less than four times";
}

TEST_F(ServerTableTest, one_late_read_does_not_make_a_server_slow) {
  reads("a", 20, ms(2));
  reads("b", 20, ms(2));
  reads("b", 1, ms(40));
  EXPECT_FALSE(slow("b"));
  reads("b", 3, ms(40));
  EXPECT_TRUE(slow("b"));
}

TEST_F(ServerTableTest, it_is_tried_again_after_a_while_and_what_it_did_then_counts_alone) {
  reads("a", 8, ms(50));
  reads("b", 8, ms(2));
  ASSERT_TRUE(slow("a"));
  now_ = now_ + (ServerTable::kSlowFor - ms(20));
  EXPECT_TRUE(slow("a"));
  reads("b", 8, ms(2));
  EXPECT_TRUE(slow("a")) << "another's reads change nothing";
  now_ = now_ + ms(4);
  EXPECT_FALSE(slow("a"));
  reads("a", 4, ms(3));
  reads("b", 1, ms(2));
  EXPECT_FALSE(slow("a"));
  reads("a", 8, ms(100));
  EXPECT_TRUE(slow("a"));
}

TEST_F(ServerTableTest, who_is_very_slow_is_passed_for_as_long_as_sixteen_of_its_reads_take) {
  reads("a", 8, ms(500));
  reads("b", 8, ms(2));
  now_ = now_ + ms(7'900);
  EXPECT_TRUE(slow("a"));
  now_ = now_ + ms(100);
  EXPECT_FALSE(slow("a"));
}

TEST_F(ServerTableTest, a_peer_that_was_quick_long_ago_proves_nothing) {
  reads("b", 8, ms(2));
  now_ = now_ + ServerTable::kSlowFor;
  reads("a", 8, ms(100));
  EXPECT_FALSE(slow("a"));
}

TEST_F(ServerTableTest, a_server_that_failed_or_came_back_is_as_one_never_seen) {
  reads("a", 8, ms(100));
  reads("b", 8, ms(2));
  ASSERT_TRUE(slow("a"));
  table_->fail("a", now_);
  EXPECT_FALSE(slow("a"));
  reads("a", 3, ms(100));
  EXPECT_FALSE(slow("a"));
  reads("a", 1, ms(100));
  EXPECT_TRUE(slow("a"));
  table_->set({{.name = "a", .incarnation = 2}, {.name = "b", .incarnation = 1}});
  EXPECT_FALSE(slow("a"));
}

TEST_F(ServerTableTest, who_answers_within_the_floor_is_not_slow_and_nobody_is_where_the_factor_is_zero) {
  reads("a", 8, ms(4));
  reads("b", 8, Duration::from_us(100));
  EXPECT_FALSE(slow("a"));
  for (int i = 0; i < 8; ++i) table_->succeeded("a", std::nullopt, now_);  // Short reads: not compared.
  EXPECT_FALSE(slow("a"));
  make({.slow_factor = 0});
  reads("a", 8, ms(400));
  reads("b", 8, ms(2));
  EXPECT_FALSE(slow("a"));
}

}  // namespace
}  // namespace cenote::load
