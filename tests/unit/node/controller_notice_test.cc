// Goal: a member that falls silent is told of within its silence, costs nothing else, and is lost only after member_timeout; a controller that
// stood still itself takes nobody's silence for death. Method: the scripted members of controller_world.h, with beats.
#include "controller_world.h"

namespace cenote::node {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Duration kBeat = Duration::from_ms(40);

class ControllerNotice : public testing::Test {
 protected:
  // Steps as asked for; all but `silent` beat each 40 ms and report each 240.
  void pass(Duration time, const std::string& silent = "") {
    for (const Instant end = world_.now + time; world_.now < end;) {
      world_.now = std::min(world_.now + kBeat, std::max(world_.controller().next_deadline(), world_.now + Duration{1}));
      world_.step();
      if (world_.now < beat_at_) continue;
      beat_at_ = world_.now + kBeat;
      ++beats_;
      for (const auto& [name, report] : world_.alive) {
        if (name == silent) continue;
        world_.feed(MemberBeat{world_.stream_of.at(name), kBeat});
        if (beats_ % 6 == 0) world_.feed(Reported{world_.stream_of.at(name), report});
      }
    }
  }
  std::vector<std::string> suspects() const {
    const auto* told = world_.last_told<Suspects>("agent-0");
    return told == nullptr ? std::vector<std::string>{} : told->names;
  }
  size_t assignments() const {
    const auto& told = world_.told.at(world_.stream_of.at("agent-0"));
    return static_cast<size_t>(std::count_if(told.begin(), told.end(), [](const Directive& d) { return std::holds_alternative<Assignment>(d); }));
  }
  TwoServers world_;
  Instant beat_at_;
  int beats_ = 0;
};

TEST_F(ControllerNotice, a_silent_server_is_told_of_at_once_and_costs_no_assignment) {
  pass(ms(500));
  EXPECT_THAT(suspects(), IsEmpty());
  const size_t before = assignments();
  pass(ms(170), "memory-0");
  EXPECT_THAT(suspects(), ElementsAre("memory-0"));
  EXPECT_EQ(world_.controller().suspected(), 1u);
  const CallId call = world_.call(ClusterAsked{});
  size_t noted = 0;
  for (const MemberReport& member : (*world_.clusters.at(call)).members) noted += member.notes.size();
  EXPECT_EQ(noted, 1u);
  pass(ms(1'000), "memory-0");
  pass(ms(100));
  EXPECT_THAT(suspects(), IsEmpty());
  EXPECT_EQ(assignments(), before);
}

TEST_F(ControllerNotice, one_that_stays_silent_is_lost_after_member_timeout) {
  pass(ms(500));
  pass(ms(2'300), "memory-0");
  const auto* assignment = world_.last_told<Assignment>("agent-0");
  ASSERT_NE(assignment, nullptr);
  EXPECT_EQ(assignment->memory_servers.size(), 1u);
  EXPECT_THAT(suspects(), IsEmpty());  // The assignment says more.
}

TEST_F(ControllerNotice, a_reset_connection_is_noticed_without_any_silence) {
  pass(ms(500));
  world_.feed(StreamEnded{world_.stream_of.at("memory-1")});
  EXPECT_THAT(suspects(), ElementsAre("memory-1"));
  world_.feed(Reported{world_.stream_of["memory-1"] = world_.next_stream++, world_.alive.at("memory-1")});
  EXPECT_THAT(suspects(), IsEmpty());
}

TEST_F(ControllerNotice, a_controller_that_stood_still_neither_suspects_nor_loses_anybody) {
  pass(ms(500));
  const size_t before = assignments();
  world_.now = world_.now + ms(5'000);
  world_.step();  // It wakes before anything that was said meanwhile is read.
  pass(ms(500));
  EXPECT_THAT(suspects(), IsEmpty());
  EXPECT_EQ(world_.controller().suspected(), 0u);
  EXPECT_EQ(world_.controller().stalls().stalls, 1u);
  EXPECT_EQ(assignments(), before);
}

TEST_F(ControllerNotice, a_member_that_beats_is_answered_and_one_that_never_did_is_not_suspected) {
  world_.wait(ms(1'500));
  EXPECT_EQ(world_.controller().suspected(), 0u);
  const auto stream = world_.stream_of.at("router-0");
  const size_t before = world_.told[stream].size();
  world_.feed(MemberBeat{stream, kBeat});
  EXPECT_EQ(world_.told[stream].size(), before + 1);
}

}  // namespace
}  // namespace cenote::node
