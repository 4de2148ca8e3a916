// Goal: one bad server among good ones is excluded and taken back; a bad day of all is nobody's fault; never more than half.
// Method: scripts for each rule.
#include "policy/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace cenote::policy {
namespace {

using testing::HasSubstr;

Instant at(int64_t seconds) { return Instant{} + Duration::from_seconds(seconds); }

std::vector<HealthServer> well(size_t count) {
  return std::vector<HealthServer>(count, HealthServer{.there = true, .lately = {.reads = 100, .bytes = 100 * kMiB, .read_time = Duration::from_ms(200)}, .last = {}});
}

Health judge(const std::vector<HealthServer>& servers, size_t which, Instant now) { return judge_health(now, servers, {}).at(which); }

TEST(HealthTest, equals_are_well) {
  for (const Health& health : judge_health(at(1), well(4), {})) EXPECT_EQ(health.trouble, Trouble::kNone);
}

TEST(HealthTest, slow_is_slow_beside_others_and_beyond_the_floor) {
  std::vector<HealthServer> servers = well(3);
  servers[0].lately.read_time = Duration::from_ms(100 * 30);
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kSlow);
  EXPECT_THAT(judge(servers, 0, at(1)).reason, HasSubstr("34.9 MB/s"));
  servers[0].lately.read_time = Duration::from_ms(100 * 19);
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kNone) << "below the floor";
  for (HealthServer& server : servers) server.lately.read_time = Duration::from_ms(100 * 300);
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kNone) << "all of them";
  servers = well(3);
  servers[0].lately = {.reads = 7, .bytes = 7 * kMiB, .read_time = Duration::from_seconds(7)};
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kNone) << "too few reads to tell";
  servers = well(1);
  servers[0].lately.read_time = Duration::from_seconds(1000);
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kNone) << "alone";
}

TEST(HealthTest, corrupt_flapping_and_failing_count_beyond_what_all_suffer) {
  for (const auto member : {&ServerSample::corrupt, &ServerSample::returns, &ServerSample::failures}) {
    std::vector<HealthServer> servers = well(3);
    servers[2].lately.*member = 5;
    EXPECT_NE(judge(servers, 2, at(1)).trouble, Trouble::kNone);
    EXPECT_EQ(judge(servers, 1, at(1)).trouble, Trouble::kNone);
    for (HealthServer& server : servers) server.lately.*member = 5;
    EXPECT_EQ(judge(servers, 2, at(1)).trouble, Trouble::kNone);
  }
}

TEST(HealthTest, it_is_taken_back_after_its_probation_which_doubles) {
  std::vector<HealthServer> servers = well(3);
  servers[0].lately.returns = 9;
  servers[0].last = judge(servers, 0, at(100));
  EXPECT_EQ(servers[0].last.until, at(160));
  servers[0].lately = well(1)[0].lately;
  EXPECT_EQ(judge(servers, 0, at(159)).trouble, Trouble::kFlapping) << "not before";
  servers[0].last = judge(servers, 0, at(160));
  EXPECT_EQ(servers[0].last.trouble, Trouble::kNone);
  servers[0].lately.returns = 9;
  servers[0].last = judge(servers, 0, at(200));
  EXPECT_EQ(servers[0].last.until, at(320)) << "twice as long";
  servers[0].last = judge(servers, 0, at(320));
  EXPECT_EQ(servers[0].last.trouble, Trouble::kFlapping) << "still at it";
  EXPECT_EQ(servers[0].last.until, at(440));
  servers[0].lately.returns = 0;
  servers[0].last = judge(servers, 0, at(440));
  servers[0].last = judge(servers, 0, at(1100));
  EXPECT_EQ(servers[0].last.times, 0u) << "long well: forgotten";
}

TEST(HealthTest, a_slow_server_that_is_read_fast_again_need_not_wait) {
  std::vector<HealthServer> servers = well(3);
  for (HealthServer& server : servers) server.lately.read_time = Duration::from_ms(100 * 5);
  servers[0].lately.read_time = Duration::from_seconds(100);
  servers[0].last = judge(servers, 0, at(100));
  ASSERT_EQ(servers[0].last.trouble, Trouble::kSlow);
  servers[0].lately.read_time = Duration::from_ms(100 * 30);
  EXPECT_EQ(judge(servers, 0, at(140)).trouble, Trouble::kSlow) << "better, but not well: hysteresis";
  servers[0].lately.read_time = Duration::from_ms(200);
  EXPECT_EQ(judge(servers, 0, at(120)).trouble, Trouble::kSlow) << "what is looked at is in part from before";
  EXPECT_EQ(judge(servers, 0, at(140)).trouble, Trouble::kNone);
}

TEST(HealthTest, when_others_leave_it_is_taken_back_whose_probation_ends_next) {
  std::vector<HealthServer> servers = well(4);
  servers[0].last = {.trouble = Trouble::kFlapping, .reason = "flapping", .since = at(1), .until = at(60), .times = 1};
  servers[1].last = {.trouble = Trouble::kFlapping, .reason = "flapping", .since = at(1), .until = at(50), .times = 1};
  EXPECT_NE(judge(servers, 1, at(10)).trouble, Trouble::kNone);
  servers[3].there = false;
  EXPECT_NE(judge(servers, 0, at(10)).trouble, Trouble::kNone);
  EXPECT_EQ(judge(servers, 1, at(10)).trouble, Trouble::kNone);
  EXPECT_EQ(judge(servers, 1, at(10)).times, 1u);
}

TEST(HealthTest, no_more_than_half_and_none_that_is_alone) {
  for (const size_t count : {1, 2, 3, 4, 7}) {
    std::vector<HealthServer> servers = well(count);
    for (size_t i = 0; i < count; ++i) servers[i].lately.returns = 5 * (i + 1) * (i + 1);
    size_t excluded = 0;
    for (int round = 0; round < 3; ++round) {
      const std::vector<Health> judged = judge_health(at(round), servers, {});
      excluded = 0;
      for (size_t i = 0; i < count; ++i) {
        servers[i].last = judged[i];
        excluded += judged[i].trouble != Trouble::kNone ? 1 : 0;
      }
    }
    EXPECT_LE(excluded, count / 2) << count;
  }
}

TEST(HealthTest, who_is_not_there_is_judged_when_it_is) {
  std::vector<HealthServer> servers = well(3);
  servers[0].lately.returns = 9;
  servers[0].there = false;
  EXPECT_EQ(judge(servers, 0, at(1)).trouble, Trouble::kNone);
}

}  // namespace
}  // namespace cenote::policy
