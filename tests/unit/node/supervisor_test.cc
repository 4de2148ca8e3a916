// Goal: the supervisor keeps its children running, backs off from those that keep dying, and stops them in order and in time.
// Method: scripted events on a made-up clock; no process is started.
#include "node/supervisor.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cenote::node {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest()
      : supervisor_({.children = {{"router-0", Role::kRouter}, {"agent-0", Role::kAgent}, {"memory-0", Role::kMemory},
                                  {"controller", Role::kController}},
                     .drain_timeout = Duration::from_ms(1'000)}) {}

  std::vector<SupervisorAction> step(std::vector<SupervisorEvent> events = {}) {
    std::vector<SupervisorAction> actions;
    supervisor_.step(now_, events, actions);
    return actions;
  }
  static std::vector<std::string> starts(const std::vector<SupervisorAction>& actions) {
    std::vector<std::string> names;
    for (const auto& action : actions) {
      if (const auto* start = std::get_if<StartChild>(&action)) names.push_back(start->name);
    }
    return names;
  }
  static std::vector<std::pair<int64_t, int>> signals(const std::vector<SupervisorAction>& actions) {
    std::vector<std::pair<int64_t, int>> sent;
    for (const auto& action : actions) {
      if (const auto* signal = std::get_if<SignalChild>(&action)) sent.emplace_back(signal->pid, signal->signal);
    }
    return sent;
  }
  static bool done(const std::vector<SupervisorAction>& actions) {
    return std::ranges::any_of(actions, [](const auto& a) { return std::holds_alternative<StopDone>(a); });
  }
  void start_all() {
    step();
    step({ChildStarted{"router-0", 11}, ChildStarted{"agent-0", 12}, ChildStarted{"memory-0", 13}, ChildStarted{"controller", 14}});
  }

  Instant now_{1'000'000'000};
  Supervisor supervisor_;
};

TEST_F(SupervisorTest, the_first_step_starts_every_child_once) {
  EXPECT_THAT(starts(step()), UnorderedElementsAre("router-0", "agent-0", "memory-0", "controller"));
  EXPECT_THAT(starts(step()), IsEmpty());
}

TEST_F(SupervisorTest, a_dead_child_is_started_again_after_its_back_off_which_doubles) {
  start_all();
  Duration expected = Supervisor::kBackoffMin;
  int64_t pid = 13, next_pid = 100;
  for (int round = 0; round < 9; ++round) {
    EXPECT_THAT(starts(step({ChildExited{pid, "signal 9"}})), IsEmpty());
    EXPECT_EQ(supervisor_.next_deadline().ns, (now_ + expected).ns);
    now_ = now_ + expected;
    EXPECT_THAT(starts(step()), ElementsAre("memory-0"));
    step({ChildStarted{"memory-0", pid = ++next_pid}});
    expected = std::min(expected * 2, Supervisor::kBackoffMax);
  }
  EXPECT_EQ(supervisor_.children().at("memory-0").restarts, 9u);
  EXPECT_EQ(supervisor_.children().at("memory-0").last_exit, "signal 9");
}

TEST_F(SupervisorTest, the_back_off_starts_anew_after_a_settled_run) {
  start_all();
  step({ChildExited{13, "exit 1"}});
  now_ = now_ + Duration::from_ms(100);
  step();
  step({ChildStarted{"memory-0", 20}});
  now_ = now_ + Supervisor::kSettledAfter;
  step({ChildExited{20, "exit 1"}});
  EXPECT_EQ(supervisor_.next_deadline().ns, (now_ + Supervisor::kBackoffMin).ns);
}

TEST_F(SupervisorTest, a_child_that_cannot_be_started_is_tried_again) {
  step();
  step({ChildNotStarted{"agent-0", absl::ResourceExhaustedError("fork: no memory")}});
  EXPECT_EQ(supervisor_.children().at("agent-0").last_exit, "not started: fork: no memory");
  now_ = now_ + Supervisor::kBackoffMin;
  EXPECT_THAT(starts(step()), ElementsAre("agent-0"));
}

TEST_F(SupervisorTest, the_exit_of_a_stranger_changes_nothing) {
  start_all();
  EXPECT_THAT(step({ChildExited{999, "exit 0"}}), IsEmpty());
}

TEST_F(SupervisorTest, a_stop_ends_routers_then_agents_then_memory_then_the_controller) {
  start_all();
  EXPECT_THAT(signals(step({StopAsked{}})), ElementsAre(std::pair(int64_t{11}, SIGTERM)));
  EXPECT_THAT(signals(step({ChildExited{11, "exit 0"}})), ElementsAre(std::pair(int64_t{12}, SIGTERM)));
  EXPECT_THAT(signals(step({ChildExited{12, "exit 0"}})), ElementsAre(std::pair(int64_t{13}, SIGTERM)));
  EXPECT_THAT(signals(step({ChildExited{13, "exit 0"}})), ElementsAre(std::pair(int64_t{14}, SIGTERM)));
  EXPECT_TRUE(done(step({ChildExited{14, "exit 0"}})));
  EXPECT_FALSE(done(step()));
}

TEST_F(SupervisorTest, a_stage_that_does_not_end_in_time_is_killed) {
  start_all();
  step({StopAsked{}});
  now_ = supervisor_.next_deadline();
  EXPECT_THAT(signals(step()), ElementsAre(std::pair(int64_t{11}, SIGKILL)));
  EXPECT_THAT(signals(step()), IsEmpty());
}

TEST_F(SupervisorTest, nothing_is_restarted_while_stopping) {
  start_all();
  step({StopAsked{}});
  step({ChildExited{14, "signal 11"}});
  now_ = now_ + Duration::from_ms(500);
  EXPECT_THAT(starts(step()), IsEmpty());
}

TEST_F(SupervisorTest, a_start_under_way_when_the_stop_begins_is_ended_too) {
  step();
  step({ChildStarted{"agent-0", 12}, ChildStarted{"memory-0", 13}, ChildStarted{"controller", 14}});
  step({StopAsked{}});  // router-0 has not started: its stage is over at once.
  EXPECT_THAT(signals(step({ChildStarted{"router-0", 11}})), ElementsAre(std::pair(int64_t{11}, SIGTERM)));
}

}  // namespace
}  // namespace cenote::node
