// Goal: a peer that is waited for and says nothing is suspected in time, one that speaks is not, and the owner's own sleep is no proof
// against others; what a silent router or executor has goes to another, is answered once, and the silent one is used again when it speaks.
// Method: the pure parts and the state machines on a made-up clock.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/suspicion.h"
#include "base/text.h"
#include "node/beats.h"
#include "node/client.h"
#include "node/executor.h"
#include "node/router.h"

namespace cenote::node {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Duration kBeat = Duration::from_ms(40);

Digest digest(uint8_t n) {
  Digest d;
  d.bytes.fill(n);
  return d;
}
RequestId id(uint64_t n) { return {.high = 7, .low = n}; }

template <typename T, typename Actions>
std::vector<T> of(const Actions& actions) {
  std::vector<T> out;
  for (const auto& action : actions) {
    if (const T* one = std::get_if<T>(&action)) out.push_back(*one);
  }
  return out;
}

// ---- suspicion ----------------------------------------------------------------------------------------------------------
class SuspicionTest : public testing::Test {
 protected:
  // As an owner does who is woken when he asked for it.
  std::vector<int> pass(Duration time) {
    const Instant end = now_ + time;
    std::vector<int> silent;
    while (suspicion_.next_deadline() < end) {
      now_ = suspicion_.next_deadline();
      collect(silent);
    }
    now_ = end;
    collect(silent);
    return silent;
  }
  void collect(std::vector<int>& silent) {
    suspicion_.awake(now_);
    for (const int peer : suspicion_.step(now_)) silent.push_back(peer);
  }
  Instant now_{1'000'000'000};
  Suspicion<int> suspicion_;
};

TEST_F(SuspicionTest, a_peer_is_suspected_after_three_promises_without_a_word) {
  suspicion_.expect(now_, 1, kBeat);
  EXPECT_THAT(pass(Duration::from_ms(119)), IsEmpty());
  EXPECT_THAT(pass(Duration::from_ms(2)), ElementsAre(1));
  EXPECT_TRUE(suspicion_.suspected(1));
  EXPECT_TRUE(suspicion_.heard(now_, 1));
  EXPECT_FALSE(suspicion_.suspected(1));
}

TEST_F(SuspicionTest, one_that_beats_or_that_nobody_waits_for_or_that_promised_nothing_is_not) {
  suspicion_.expect(now_, 1, kBeat);
  suspicion_.expect(now_, 2, kBeat);
  suspicion_.settle(2);
  suspicion_.expect(now_, 3, Duration{});
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(pass(Duration::from_ms(100)), IsEmpty());
    suspicion_.heard(now_, 1, kBeat);
  }
}

TEST_F(SuspicionTest, a_promise_may_be_longer_and_a_large_message_gives_grace_until_the_next_beat) {
  suspicion_.expect(now_, 1, kBeat, Duration::from_ms(500));
  EXPECT_THAT(pass(Duration::from_ms(600)), IsEmpty());
  suspicion_.heard(now_, 1, Duration::from_ms(200));
  EXPECT_THAT(pass(Duration::from_ms(599)), IsEmpty());
  EXPECT_THAT(pass(Duration::from_ms(2)), ElementsAre(1));
}

TEST_F(SuspicionTest, the_owners_own_sleep_does_not_count_and_is_reported) {
  suspicion_.expect(now_, 1, kBeat);
  EXPECT_THAT(pass(Duration::from_ms(29)), IsEmpty());
  now_ = now_ + Duration::from_ms(5'000);  // Stopped; not stepped when it asked.
  std::vector<int> silent;
  collect(silent);
  EXPECT_THAT(silent, IsEmpty());
  EXPECT_EQ(suspicion_.stalls().stalls, 1u);
  EXPECT_GE(suspicion_.stalls().longest, Duration::from_ms(4'980));
  // And it is no licence: what was left of the silence is.
  EXPECT_THAT(pass(Duration::from_ms(95)), ElementsAre(1));
}

// ---- beats --------------------------------------------------------------------------------------------------------------
TEST(Beats, who_waits_hears_each_interval_and_who_does_not_hears_nothing) {
  Beats beats(kBeat);
  Instant now{1};
  beats.owe(now, 1);
  beats.owe(now, 2);
  std::vector<uint64_t> told;
  const auto step = [&] {
    beats.step(now, [](uint64_t peer) { return peer == 1; }, [&](uint64_t peer, Duration next) {
      EXPECT_EQ(next, kBeat);
      told.push_back(peer);
    });
  };
  step();
  EXPECT_THAT(told, IsEmpty());
  for (int i = 0; i < 3; ++i) {
    now = beats.next_deadline();
    step();
  }
  EXPECT_THAT(told, ElementsAre(1, 1, 1));
}

TEST(Beats, many_who_wait_are_promised_rarer_beats) {
  Beats beats(kBeat);
  Instant now{1};
  for (uint64_t peer = 0; peer < 10'000; ++peer) beats.owe(now, peer);
  size_t told = 0;
  for (; now < Instant{1} + Duration::from_seconds(10); now = beats.next_deadline()) {
    beats.step(now, [](uint64_t) { return true; }, [&](uint64_t, Duration next) {
      EXPECT_EQ(next, Duration::from_seconds(5));
      ++told;
    });
  }
  EXPECT_LE(told, 10 * Beats::kRateMax + 10'000);
  EXPECT_GE(told, 10'000u);
}

TEST(Beats, one_that_was_late_says_so_even_to_those_who_do_not_wait_any_more) {
  Beats beats(kBeat);
  Instant now{1};
  beats.owe(now, 1);
  now = now + Duration::from_seconds(5);
  int told = 0;
  beats.step(now, [](uint64_t) { return false; }, [&](uint64_t, Duration) { ++told; });
  EXPECT_EQ(told, 1);  // It may suspect us, and nothing else may come.
}

// ---- the router ---------------------------------------------------------------------------------------------------------
class RouterSilenceTest : public testing::Test {
 protected:
  RouterSilenceTest() {
    ClusterView view{.version = 1, .tags = {{"bert", "latest", digest(1)}}, .revisions = {digest(1)}, .revision_names = {{digest(1), "bert"}}};
    for (int i = 0; i < 2; ++i) view.executors.push_back({.name = str_cat("e", i), .address = str_cat("host:", 100 + i), .incarnation = 10u});
    step({router::ViewChanged{view}, router::SessionOpened{1}});
    up(1);
  }
  void up(router::LinkId link) { step({router::LinkUp{.link = link, .incarnation = 10, .credits = 4, .beat = kBeat}}); }
  std::vector<router::Action> step(std::vector<router::Event> events = {}) {
    std::vector<router::Action> actions;
    router_.step(now_, events, actions);
    return actions;
  }
  // Steps as asked for; `beating` links beat all the while.
  std::vector<router::Action> pass(Duration time, std::vector<router::LinkId> beating = {}) {
    const Instant end = now_ + time;
    std::vector<router::Action> all;
    while (now_ < end) {
      now_ = std::min({end, router_.next_deadline(), now_ + kBeat});
      std::vector<router::Event> events;
      for (const router::LinkId link : beating) events.push_back(router::LinkBeat{link, kBeat});
      for (auto& action : step(std::move(events))) all.push_back(std::move(action));
    }
    return all;
  }
  std::vector<router::Action> ask(uint64_t n, bool by_ticket = false) {
    return step({router::RequestArrived{1, std::make_shared<InferRequest>(InferRequest{
                                               .id = id(n), .model = "bert", .budget = Duration::from_seconds(10), .by_ticket = by_ticket})}});
  }
  static router::Event reply(router::LinkId link, uint64_t n, absl::Status status = absl::OkStatus()) {
    return router::ReplyArrived{link, {.id = id(n), .status = std::move(status)}};
  }

  Router router_{{.name = "router-0", .queue_max = 4, .outstanding_max = 64, .retry_max = 2}};
  Instant now_{1'000'000'000};
};

TEST_F(RouterSilenceTest, what_a_silent_executor_has_goes_to_another_and_the_first_reply_counts) {
  ASSERT_EQ(of<router::SendRequest>(ask(1)).size(), 1u);
  up(2);
  const auto actions = pass(Duration::from_ms(121));
  const auto sent = of<router::SendRequest>(actions);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].link, 2u);
  EXPECT_EQ(of<router::Noticed>(actions).at(0).executor, "e0");
  const auto late = step({reply(1, 1)});  // The silent one was first after all.
  EXPECT_EQ(of<router::SendReply>(late).size(), 1u);
  ASSERT_EQ(of<router::SendCancel>(late).size(), 1u);
  EXPECT_EQ(of<router::SendCancel>(late)[0].link, 2u);
  EXPECT_THAT(of<router::SendReply>(step({reply(2, 1)})), IsEmpty());
  EXPECT_EQ(router_.counts().outstanding, 0u);
}

TEST_F(RouterSilenceTest, the_replacements_reply_cancels_what_the_silent_one_has) {
  ask(1);
  up(2);
  pass(Duration::from_ms(121));
  const auto actions = step({reply(2, 1)});
  EXPECT_EQ(of<router::SendReply>(actions).size(), 1u);
  ASSERT_EQ(of<router::SendCancel>(actions).size(), 1u);
  EXPECT_EQ(of<router::SendCancel>(actions)[0].link, 1u);
}

TEST_F(RouterSilenceTest, a_silent_executor_is_not_chosen_until_it_speaks_again) {
  ask(1);
  up(2);
  pass(Duration::from_ms(121));
  step({reply(2, 1)});
  for (uint64_t n = 2; n < 5; ++n) EXPECT_EQ(of<router::SendRequest>(ask(n)).at(0).link, 2u);
  step({reply(1, 1, absl::CancelledError("cancelled by the caller"))});
  EXPECT_EQ(of<router::SendRequest>(ask(5)).at(0).link, 1u);  // The less loaded one.
}

TEST_F(RouterSilenceTest, where_nobody_else_can_have_it_a_request_stays_until_the_executor_speaks) {
  ask(1);
  EXPECT_THAT(of<router::SendReply>(pass(Duration::from_seconds(5))), IsEmpty());
  const auto actions = step({router::LinkBeat{1, kBeat}});
  EXPECT_THAT(of<router::SendRequest>(actions), IsEmpty());  // It has it.
  EXPECT_EQ(of<router::Noticed>(actions).at(0).requests, 1u);
  EXPECT_EQ(of<router::SendReply>(step({reply(1, 1)})).size(), 1u);
}

TEST_F(RouterSilenceTest, silence_costs_no_attempt_and_a_failure_elsewhere_does_not_give_up_what_may_still_come) {
  ask(1);
  up(2);
  pass(Duration::from_ms(121));
  for (int i = 0; i < 6; ++i) {
    step({reply(2, 1, absl::UnavailableError("weights"))});
    pass(Duration::from_seconds(1), {2});
  }
  EXPECT_EQ(of<router::SendReply>(step({reply(1, 1)})).size(), 1u);
}

TEST_F(RouterSilenceTest, a_stuck_request_goes_to_another_if_there_is_one_and_stays_where_it_is_too) {
  ask(1);
  EXPECT_THAT(of<router::SendRequest>(step({router::LinkStuck{1, id(1)}})), IsEmpty());
  up(2);
  const auto sent = of<router::SendRequest>(step({router::LinkStuck{1, id(1)}}));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].link, 2u);
  EXPECT_EQ(of<router::SendReply>(step({reply(1, 1)})).size(), 1u);
}

TEST_F(RouterSilenceTest, an_executor_that_beats_keeps_its_request_for_long) {
  ask(1);
  up(2);
  EXPECT_THAT(of<router::Noticed>(pass(Duration::from_seconds(9), {1})), IsEmpty());
}

TEST_F(RouterSilenceTest, a_caller_who_waits_hears_that_the_router_lives) {
  ask(1);
  EXPECT_GE(of<router::SendBeat>(pass(Duration::from_ms(205), {1})).size(), 4u);
  step({reply(1, 1)});
  EXPECT_THAT(of<router::SendBeat>(pass(Duration::from_ms(205))), IsEmpty());
}

// ---- the executor -------------------------------------------------------------------------------------------------------
TEST(ExecutorSilence, whoever_waits_hears_that_it_lives_and_how_long_a_large_reply_may_take) {
  Executor executor({.name = "agent-0/host:0", .payload_bytes_max = 64 << 20});
  Instant now{1};
  const auto step = [&](std::vector<executor::Event> events) {
    std::vector<executor::Action> actions;
    executor.step(now, events, actions);
    return actions;
  };
  step({executor::SessionOpened{1}, executor::SessionOpened{2}, executor::PrefetchChanged{{digest(1)}}});
  step({executor::RevisionOpened{digest(1), absl::OkStatus(), true}});
  step({executor::ReadinessChanged{digest(1), Readiness::kMapped, absl::OkStatus()}});
  step({executor::WarmUpEnded{digest(1)}});
  step({executor::ReserveArrived{1, id(1), digest(1), Duration::from_seconds(10)}});
  const auto ticket = std::make_shared<InferRequest>(
      InferRequest{.id = id(1), .model = "m", .revision = digest(1), .budget = Duration::from_seconds(10), .by_ticket = true});
  step({executor::RequestArrived{2, ticket}});
  now = now + kBeat;
  EXPECT_EQ(of<executor::SendBeat>(step({})).size(), 2u);  // The router for its slot, the caller for his reply.
  const auto done = step({executor::RunEnded{.id = id(1), .outputs = {{.name = "y", .shape = {4 << 20}, .bytes = std::string(16 << 20, 'y')}}}});
  const auto beats = of<executor::SendBeat>(done);
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].session, 2u);
  EXPECT_GT(beats[0].next, Duration::from_ms(1'500));
  EXPECT_TRUE(beats[0].own);
  now = now + kBeat;
  EXPECT_THAT(of<executor::SendBeat>(step({})), IsEmpty());
}

TEST(ExecutorSilence, a_request_that_needs_a_silent_agent_is_said_to_be_stuck_once_and_one_that_does_not_is_not) {
  Executor executor({.name = "agent-0/host:0"});
  Instant now{1};
  const auto step = [&](std::vector<executor::Event> events) {
    std::vector<executor::Action> actions;
    executor.step(now, events, actions);
    return actions;
  };
  const auto request = [](uint64_t n, uint8_t revision) {
    return executor::RequestArrived{1, std::make_shared<InferRequest>(InferRequest{
                                           .id = id(n), .model = "m", .revision = digest(revision), .budget = Duration::from_seconds(10)})};
  };
  step({executor::SessionOpened{1}, executor::PrefetchChanged{{digest(1)}}, executor::AgentBeat{kBeat}});
  step({executor::RevisionOpened{digest(1), absl::OkStatus(), true}});
  step({executor::ReadinessChanged{digest(1), Readiness::kMapped, absl::OkStatus()}, executor::WarmUpEnded{digest(1)}});
  step({request(1, 1), request(2, 2)});
  std::vector<executor::Action> all;
  for (const Instant end = now + Duration::from_ms(400); now < end;) {
    now = std::max(now + Duration{1}, std::min(end, executor.next_deadline()));
    for (auto& action : step({})) all.push_back(std::move(action));
  }
  const auto stuck = of<executor::SendStuck>(all);
  ASSERT_EQ(stuck.size(), 1u);
  EXPECT_EQ(stuck[0].id, id(2));
  EXPECT_EQ(of<executor::Noticed>(all).size(), 1u);
  EXPECT_EQ(of<executor::Noticed>(step({executor::AgentBeat{kBeat}})).size(), 1u);
}

// ---- the client ---------------------------------------------------------------------------------------------------------
class ClientSilenceTest : public testing::Test {
 protected:
  std::vector<ClientAction> step(std::vector<ClientEvent> events = {}) {
    std::vector<ClientAction> actions;
    keeper_.step(now_, events, actions);
    return actions;
  }
  std::vector<ClientAction> pass(Duration time) {
    const Instant end = now_ + time;
    std::vector<ClientAction> all;
    while (now_ < end) {
      now_ = std::max(now_ + Duration{1}, std::min(end, keeper_.next_deadline()));
      for (auto& action : step()) all.push_back(std::move(action));
    }
    return all;
  }
  ClientSubmit submit(uint64_t n, uint64_t bytes = 100) const { return {id(n), now_ + Duration::from_seconds(10), bytes}; }
  Instant now_{1};
  RequestKeeper keeper_{2};
};

TEST_F(ClientSilenceTest, what_a_silent_router_has_goes_to_the_other_and_the_first_answer_counts) {
  step({RouterUp{0, 8, kBeat}});
  ASSERT_EQ(of<SendToRouter>(step({submit(1)})).size(), 1u);
  step({RouterUp{1, 8, kBeat}});
  const auto sent = of<SendToRouter>(pass(Duration::from_ms(121)));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].router, 1u);
  EXPECT_EQ(sent[0].id, id(1));
  step({RouterBeat{1, kBeat}});
  EXPECT_EQ(of<SendToRouter>(step({submit(2)})).at(0).router, 1u);  // The silent one gets nothing new.
  const auto done = step({ReplyCame{id(1), absl::OkStatus(), 0}});
  EXPECT_EQ(of<ClientDone>(done).size(), 1u);
  EXPECT_EQ(of<CancelAtRouter>(done).size(), 2u);
  EXPECT_EQ(of<SendToRouter>(step({submit(3)})).at(0).router, 0u);  // It spoke.
}

TEST_F(ClientSilenceTest, with_one_router_a_request_waits_until_it_speaks_or_another_comes) {
  step({RouterUp{0, 8, kBeat}});
  step({submit(1)});
  EXPECT_THAT(of<SendToRouter>(pass(Duration::from_seconds(5))), IsEmpty());
  EXPECT_EQ(of<SendToRouter>(step({RouterUp{1, 8, kBeat}})).size(), 1u);
  EXPECT_THAT(of<ClientDone>(step({ReplyCame{id(1), absl::UnavailableError("draining"), 0}})), IsEmpty());
  EXPECT_EQ(of<ClientDone>(step({ReplyCame{id(1), absl::OkStatus(), 1}})).size(), 1u);
}

TEST_F(ClientSilenceTest, a_ticket_for_an_executor_that_falls_silent_goes_back_to_the_router_that_gave_it) {
  step({RouterUp{0, 8, kBeat}, RouterUp{1, 8, kBeat}});
  const size_t router = of<SendToRouter>(step({submit(1, 1 << 20)})).at(0).router;
  const Ticket ticket{.id = id(1), .executor_address = "h:9", .executor_incarnation = 7, .expires_in = Duration::from_seconds(5)};
  ASSERT_EQ(of<OpenExecutor>(step({TicketCame{router, ticket}})).size(), 1u);
  ASSERT_EQ(of<SendToExecutor>(step({ExecutorUp{"h:9", 7, kBeat}})).size(), 1u);
  const auto back = of<SendToRouter>(pass(Duration::from_ms(250)));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].router, router);
  EXPECT_TRUE(back[0].header_only);
  // A late reply of the silent one is as good as another's.
  EXPECT_EQ(of<ClientDone>(step({ReplyCame{id(1), absl::OkStatus(), SIZE_MAX, "h:9"}})).size(), 1u);
}

}  // namespace
}  // namespace cenote::node
