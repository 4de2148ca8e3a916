// Goal: the router gives every admitted request exactly one outcome, to the right executor, within its bounds, whatever executors and
// callers do. Method: the state machine alone; then a random walk of callers, executors and faults with a model of both sides.
#include "node/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/text.h"

namespace cenote::node {
namespace {

using namespace router;
using testing::HasSubstr;

Digest digest(uint8_t n) {
  Digest d;
  d.bytes.fill(n);
  return d;
}

template <typename T>
std::vector<T> of(const std::vector<Action>& actions) {
  std::vector<T> out;
  for (const Action& action : actions) {
    if (const T* one = std::get_if<T>(&action)) out.push_back(*one);
  }
  return out;
}

class RouterTest : public testing::Test {
 protected:
  std::vector<Action> step(std::vector<Event> events = {}) {
    std::vector<Action> actions;
    router_.step(now_, events, actions);
    return actions;
  }
  std::vector<Action> pass(Duration time) {
    now_ = now_ + time;
    return step();
  }
  static ClusterView view(int executors) {
    ClusterView view{.version = 1, .tags = {{"bert", "latest", digest(1)}, {"bert", "old", digest(2)}, {"gpt2", "latest", digest(3)}},
                     .revisions = {digest(1), digest(2), digest(3)},
                     .revision_names = {{digest(1), "bert"}, {digest(2), "bert"}, {digest(3), "gpt2"}}};
    for (int i = 0; i < executors; ++i) {
      view.executors.push_back({.name = str_cat("e", i), .address = str_cat("host:", 100 + i), .incarnation = 10u + i});
    }
    return view;
  }
  // A router with `executors` connected and session 1 open; links are 1, 2, ...
  void start(int executors, uint32_t credits = 4) {
    const auto actions = step({ViewChanged{view(executors)}, SessionOpened{1}});
    ASSERT_EQ(of<OpenLink>(actions).size(), static_cast<size_t>(executors));
    for (int i = 0; i < executors; ++i) step({LinkUp{.link = 1u + i, .incarnation = 10u + i, .credits = credits}});
  }
  static RequestId id(uint64_t n) { return {.high = 7, .low = n}; }
  static Event request(uint64_t n, const std::string& model = "bert", bool by_ticket = false, SessionId session = 1,
                       Duration budget = Duration::from_seconds(10)) {
    return RequestArrived{session, std::make_shared<InferRequest>(InferRequest{.id = id(n), .model = model, .budget = budget,
                                                                               .by_ticket = by_ticket})};
  }
  static Event reply(LinkId link, uint64_t n, absl::Status status = absl::OkStatus()) {
    return ReplyArrived{link, {.id = id(n), .status = std::move(status)}};
  }

  Router router_{{.name = "router-0", .queue_max = 4, .outstanding_max = 64, .retry_max = 2, .deadline = Duration::from_seconds(60)}};
  Instant now_{1'000'000'000};
};

TEST_F(RouterTest, a_request_goes_to_an_executor_and_its_reply_to_its_session) {
  start(1);
  auto sent = of<SendRequest>(step({request(1)}));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].revision, digest(1));
  EXPECT_EQ(sent[0].budget, Duration::from_seconds(10));
  now_ = now_ + Duration::from_ms(5);
  const auto replies = of<SendReply>(step({reply(1, 1)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].session, 1u);
  EXPECT_TRUE(replies[0].reply.status.ok());
  EXPECT_EQ(router_.counts().outstanding, 0u);
  EXPECT_EQ(router_.counts().routed, 1u);
}

TEST_F(RouterTest, names_resolve_by_tag_and_digest_and_errors_name_what_is_near) {
  start(0);
  EXPECT_EQ(*router_.resolve("bert"), digest(1));
  EXPECT_EQ(*router_.resolve("bert:old"), digest(2));
  EXPECT_EQ(*router_.resolve("bert@020202"), digest(2));
  EXPECT_THAT(std::string(router_.resolve("brt").status().message()), HasSubstr("did you mean 'bert'"));
  EXPECT_THAT(std::string(router_.resolve("bert:new").status().message()), HasSubstr("latest, old"));
  EXPECT_EQ(router_.resolve("bert@ffffff").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(router_.resolve("no such/model").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RouterTest, an_unknown_name_waits_for_a_newer_view_and_is_then_not_found) {
  start(1);
  EXPECT_TRUE(of<SendReply>(step({request(1, "vit")})).empty());
  ClusterView newer = view(1);
  newer.tags.push_back({"vit", "latest", digest(4)});
  newer.revisions.push_back(digest(4));
  EXPECT_EQ(of<SendRequest>(step({ViewChanged{newer}})).size(), 1u);
  EXPECT_TRUE(of<SendReply>(step({request(2, "bertt")})).empty());
  const auto replies = of<SendReply>(pass(Router::kUnknownNameWait));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kNotFound);
}

TEST_F(RouterTest, before_its_first_view_a_router_sends_callers_elsewhere) {
  step({SessionOpened{1}});
  EXPECT_EQ(of<SendReply>(step({request(1)}))[0].reply.status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, credits_are_never_exceeded_and_the_queue_is_served_in_order) {
  start(1, 2);
  const auto sent = of<SendRequest>(step({request(1), request(2), request(3), request(4)}));
  EXPECT_EQ(sent.size(), 2u);
  EXPECT_EQ(router_.counts().queued, 2u);
  const auto next = of<SendRequest>(step({reply(1, 1)}));
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].request->id, id(3));
  EXPECT_EQ(of<SendRequest>(step({LinkCredits{.link = 1, .credits = 3}})).size(), 1u);
}

TEST_F(RouterTest, a_full_queue_refuses_with_its_limit) {
  start(1, 0);
  step({request(1), request(2), request(3), request(4)});
  const auto replies = of<SendReply>(step({request(5)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(replies[0].reply.status.message()), HasSubstr("router.queue_max is 4"));
  EXPECT_EQ(router_.counts().refused, 1u);
}

TEST_F(RouterTest, a_lost_executors_requests_are_sent_elsewhere) {
  start(2);
  const auto first = of<SendRequest>(step({request(1)}));
  ASSERT_EQ(first.size(), 1u);
  const auto again = of<SendRequest>(step({LinkLost{first[0].link, absl::UnavailableError("connection reset")}}));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_NE(again[0].link, first[0].link);
  EXPECT_EQ(router_.counts().retried, 1u);
  EXPECT_EQ(of<SendReply>(step({reply(again[0].link, 1)})).size(), 1u);
}

TEST_F(RouterTest, unavailable_and_exhausted_executors_are_left_for_others_and_other_errors_are_answers) {
  start(2);
  const auto first = of<SendRequest>(step({request(1)}))[0];
  const auto second = of<SendRequest>(step({reply(first.link, 1, absl::UnavailableError("weights"))}));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].link, first.link);
  const auto answer = of<SendReply>(step({reply(second[0].link, 1, absl::InvalidArgumentError("input 'x'"))}));
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].reply.status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RouterTest, the_only_executor_gets_a_failed_request_again_after_a_pause_until_retries_are_used_up) {
  start(1);
  auto sent = of<SendRequest>(step({request(1)}));
  for (int attempt = 1; attempt <= 2; ++attempt) {
    EXPECT_TRUE(of<SendRequest>(step({reply(1, 1, absl::UnavailableError("weights"))})).empty());
    sent = of<SendRequest>(pass(Duration::from_seconds(1)));
    ASSERT_EQ(sent.size(), 1u);
  }
  const auto replies = of<SendReply>(step({reply(1, 1, absl::UnavailableError("weights"))}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_THAT(std::string(replies[0].reply.status.message()), HasSubstr("3 attempts"));
}

TEST_F(RouterTest, the_deadline_ends_waiting_and_running_requests) {
  start(1, 1);
  step({request(1), request(2, "bert", false, 1, Duration::from_ms(100))});
  auto actions = pass(Duration::from_ms(100));
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.id, id(2));
  EXPECT_THAT(std::string(of<SendReply>(actions)[0].reply.status.message()), HasSubstr("may serve 'bert'"));
  actions = pass(Duration::from_seconds(10));
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(of<SendCancel>(actions).size(), 1u);
  // The executor still has it: its slot is not given out again before it lets go.
  EXPECT_TRUE(of<SendRequest>(step({request(3)})).empty());
  actions = step({reply(1, 1)});
  EXPECT_TRUE(of<SendReply>(actions).empty());
  EXPECT_EQ(of<SendRequest>(actions).size(), 1u);
}

TEST_F(RouterTest, a_large_payload_gets_a_ticket_and_its_slot_stays_taken_until_released) {
  start(1, 1);
  const auto actions = step({request(1, "bert", true)});
  EXPECT_TRUE(of<SendRequest>(actions).empty());
  ASSERT_EQ(of<SendReserve>(actions).size(), 1u);
  ASSERT_EQ(of<SendTicket>(actions).size(), 1u);
  const Ticket ticket = of<SendTicket>(actions)[0].ticket;
  EXPECT_EQ(ticket.executor_address, "host:100");
  EXPECT_EQ(ticket.executor_incarnation, 10u);
  EXPECT_EQ(ticket.revision, digest(1));
  EXPECT_TRUE(of<SendRequest>(step({request(2)})).empty());
  EXPECT_EQ(of<SendRequest>(step({SlotFreed{1, id(1), absl::OkStatus()}})).size(), 1u);
}

TEST_F(RouterTest, a_large_payload_inside_the_call_is_refused) {
  start(1);
  auto message = std::make_shared<InferRequest>(InferRequest{.id = id(1), .model = "bert", .payload_bytes = kInlinePayloadBytesMax + 1});
  const auto replies = of<SendReply>(step({RequestArrived{1, message}}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RouterTest, a_ticket_that_was_of_no_use_is_replaced_by_one_for_another_executor) {
  start(2);
  const auto first = of<SendTicket>(step({request(1, "bert", true)}));
  const auto actions = step({request(1, "bert", true)});
  ASSERT_EQ(of<SendTicket>(actions).size(), 1u);
  EXPECT_NE(of<SendTicket>(actions)[0].ticket.executor_address, first[0].ticket.executor_address);
  EXPECT_EQ(of<SendCancel>(actions).size(), 1u);
}

TEST_F(RouterTest, a_duplicate_id_runs_once_and_answers_the_newest_session) {
  start(2);
  step({request(1), SessionOpened{2}});
  EXPECT_TRUE(of<SendRequest>(step({request(1, "bert", false, 2)})).empty());
  const auto replies = of<SendReply>(step({reply(1, 1), reply(2, 1)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].session, 2u);
}

TEST_F(RouterTest, a_closed_session_takes_its_requests_with_it) {
  start(1, 1);
  step({request(1), request(2)});
  const auto actions = step({SessionClosed{1}});
  EXPECT_EQ(of<SendCancel>(actions).size(), 1u);
  EXPECT_TRUE(of<SendReply>(step({reply(1, 1, absl::CancelledError(""))})).empty());
  EXPECT_EQ(router_.counts().queued, 0u);
  EXPECT_EQ(router_.counts().outstanding, 0u);
}

TEST_F(RouterTest, a_cancelled_request_is_answered_as_cancelled) {
  start(1);
  step({request(1)});
  const auto actions = step({CancelArrived{1, id(1)}});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(of<SendCancel>(actions).size(), 1u);
}

TEST_F(RouterTest, draining_refuses_new_requests_announces_itself_and_finishes_the_old) {
  start(1);
  step({request(1)});
  const auto actions = step({DrainBegan{}});
  ASSERT_EQ(of<Announce>(actions).size(), 1u);
  EXPECT_TRUE(of<Announce>(actions)[0].draining);
  EXPECT_FALSE(router_.drained());
  EXPECT_EQ(of<SendReply>(step({request(2)}))[0].reply.status.code(), absl::StatusCode::kUnavailable);
  step({reply(1, 1)});
  EXPECT_TRUE(router_.drained());
}

TEST_F(RouterTest, only_allowed_executors_get_a_revision_and_a_busy_model_does_not_hold_up_another) {
  start(2, 1);
  ClusterView limited = view(2);
  limited.allowed[digest(1)] = {"e0"};
  step({ViewChanged{limited}});
  const auto first = of<SendRequest>(step({request(1), request(2), request(3, "gpt2")}));
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].link, 1u);
  EXPECT_EQ(first[1].request->id, id(3));
  EXPECT_EQ(first[1].link, 2u);
}

TEST_F(RouterTest, executors_that_a_new_controller_does_not_know_yet_serve_on) {
  start(1);
  ClusterView empty = view(0);
  step({ViewChanged{empty}});
  EXPECT_EQ(of<SendRequest>(step({request(1)})).size(), 1u);
}

TEST_F(RouterTest, a_lost_link_is_made_again_with_back_off) {
  start(1);
  EXPECT_TRUE(of<OpenLink>(step({LinkLost{1, absl::UnavailableError("reset")}})).empty());
  EXPECT_EQ(of<OpenLink>(pass(Router::kConnectRetryMin)).size(), 1u);
  EXPECT_TRUE(of<OpenLink>(step({LinkLost{2, absl::UnavailableError("refused")}})).empty());
  const auto late = of<OpenLink>(pass(Router::kConnectRetryMin));
  ASSERT_EQ(late.size(), 1u);
  step({LinkLost{late[0].link, absl::UnavailableError("refused")}});
  EXPECT_TRUE(of<OpenLink>(pass(Router::kConnectRetryMin)).empty());
  EXPECT_EQ(of<OpenLink>(pass(Router::kConnectRetryMin)).size(), 1u);
}

TEST_F(RouterTest, a_removed_models_waiting_requests_are_not_found) {
  start(1, 0);
  step({request(1, "gpt2")});
  ClusterView without = view(1);
  without.tags.pop_back();
  without.revisions.pop_back();
  without.revision_names.erase(digest(3));
  const auto replies = of<SendReply>(step({ViewChanged{without}}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kNotFound);
}

// ---- the random walk ----------------------------------------------------------------------------------------------------
struct World {
  struct Link {
    std::string executor;
    bool up = false;
    uint32_t credits = 0;
    std::map<RequestId, bool> held;  // Id -> reserved.
  };
  std::map<LinkId, Link> links;
  std::map<RequestId, int> outcomes;
  std::map<RequestId, SessionId> asked;   // Of live sessions, without outcome.
  std::set<SessionId> sessions;

  void take(const std::vector<Action>& actions) {
    for (const Action& action : actions) std::visit([this](const auto& a) { apply(a); }, action);
  }
  void apply(const OpenLink& a) { links[a.link].executor = a.executor; }
  void apply(const CloseLink& a) { links.erase(a.link); }
  void apply(const SendRequest& a) { hold(a.link, a.request->id, false); }
  void apply(const SendReserve& a) { hold(a.link, a.id, true); }
  void apply(const SendCancel&) {}
  void apply(const SendReply& a) { outcome(a.reply.id, a.session); }
  void apply(const SendTicket& a) { outcome(a.ticket.id, a.session); }
  void apply(const Announce&) {}
  void apply(const SendBeat&) {}
  void apply(const Noticed&) {}
  void hold(LinkId link, const RequestId& id, bool reserved) {
    RC_ASSERT(links.contains(link));
    Link& l = links[link];
    RC_ASSERT(l.up);
    RC_ASSERT(l.held.emplace(id, reserved).second);
    RC_ASSERT(l.held.size() <= l.credits);
  }
  void outcome(const RequestId& id, SessionId session) {
    RC_ASSERT(sessions.contains(session));
    RC_ASSERT(asked.contains(id));
    RC_ASSERT(asked[id] == session);
    ++outcomes[id];
    asked.erase(id);
  }
};

RC_GTEST_PROP(RouterWalk, each_admitted_request_has_one_outcome_bounds_hold_and_queues_drain_after_faults_heal, ()) {
  const RouterOptions options{.name = "r", .queue_max = 8, .outstanding_max = 6, .retry_max = 2};
  Router router(options);
  World world;
  Instant now{1};
  ClusterView view{.version = 1, .tags = {{"a", "latest", digest(1)}, {"b", "latest", digest(2)}}, .revisions = {digest(1), digest(2)},
                   .revision_names = {{digest(1), "a"}, {digest(2), "b"}}, .allowed = {{digest(2), {"e1", "e2"}}}};
  for (int i = 0; i < 3; ++i) view.executors.push_back({.name = str_cat("e", i), .address = str_cat("h:", i + 1), .incarnation = 1});
  const auto step = [&](std::vector<Event> events) {
    std::vector<Action> actions;
    router.step(now, events, actions);
    world.take(actions);
    const RouterCounts counts = router.counts();
    size_t held = 0;
    for (const auto& [link, state] : world.links) held += state.held.size();
    RC_ASSERT(counts.outstanding == held);
    RC_ASSERT(counts.outstanding <= options.outstanding_max);
    RC_ASSERT(counts.queued <= options.queue_max + options.outstanding_max);
  };
  const auto any = [](const auto& container) {
    auto it = container.begin();
    std::advance(it, *rc::gen::inRange<size_t>(0, container.size()));
    return it->first;
  };
  step({ViewChanged{view}});
  uint64_t next_id = 1;
  SessionId next_session = 1;
  const int moves = *rc::gen::inRange(0, 300);
  for (int move = 0; move < moves; ++move) {
    const Instant until = now + Duration::from_ms(*rc::gen::inRange(0, 40));
    while (router.next_deadline() > now && router.next_deadline() < until) {  // Silence is what passes while the router is awake.
      now = router.next_deadline();
      step({});
    }
    now = until;
    const int kind = *rc::gen::inRange(0, 100);
    if (kind < 10 || world.sessions.empty()) {
      world.sessions.insert(next_session);
      step({SessionOpened{next_session++}});
    } else if (kind < 50) {
      const SessionId session = *rc::gen::elementOf(world.sessions);
      const bool again = kind < 14 && !world.asked.empty();
      const RequestId id = again ? any(world.asked) : RequestId{1, next_id++};
      world.asked[id] = session;
      step({RequestArrived{session, std::make_shared<InferRequest>(
                                        InferRequest{.id = id, .model = *rc::gen::element<std::string>("a", "b"),
                                                     .budget = Duration::from_ms(*rc::gen::inRange(1, 2000)),
                                                     .by_ticket = *rc::gen::arbitrary<bool>()})}});
    } else if (kind < 53) {
      const SessionId session = *rc::gen::elementOf(world.sessions);
      world.sessions.erase(session);
      std::erase_if(world.asked, [&](const auto& entry) { return entry.second == session; });
      step({SessionClosed{session}});
    } else if (kind < 57 && !world.asked.empty()) {
      const RequestId id = any(world.asked);
      step({CancelArrived{world.asked[id], id}});
    } else if (!world.links.empty()) {
      const LinkId link = any(world.links);
      World::Link& state = world.links[link];
      if (!state.up) {
        state.up = true;
        state.credits = *rc::gen::inRange(0, 4);
        if (kind < 62) {
          world.links.erase(link);
          step({LinkLost{link, absl::UnavailableError("refused")}});
        } else {
          step({LinkUp{.link = link, .incarnation = 1, .credits = world.links[link].credits, .beat = Duration::from_ms(40)}});
        }
      } else if (kind < 65) {
        world.links.erase(link);
        step({LinkLost{link, absl::UnavailableError("reset")}});
      } else if (!state.held.empty()) {
        const RequestId id = any(state.held);
        const bool reserved = state.held[id];
        state.held.erase(id);
        const absl::Status status = kind < 75 ? absl::UnavailableError("weights") : absl::OkStatus();
        if (reserved) {
          step({SlotFreed{link, id, status}});
        } else {
          step({ReplyArrived{link, {.id = id, .status = status}}});
        }
      } else {
        step({LinkBeat{link, Duration::from_ms(40)}});
      }
    }
  }
  // Faults heal: every link comes up with credits, every executor answers. Then nothing may be left.
  for (int round = 0; round < 400 && (!world.asked.empty() || router.counts().outstanding + router.counts().queued > 0); ++round) {
    now = now + Duration::from_ms(60);
    step({});
    std::vector<Event> events;
    for (auto& [link, state] : world.links) {
      if (!state.up || state.credits == 0) {
        if (state.up) {
          events.push_back(LinkCredits{.link = link, .credits = 4});
        } else {
          events.push_back(LinkUp{.link = link, .incarnation = 1, .credits = 4});
        }
        state.up = true;
        state.credits = 4;
      }
      for (const auto& [id, reserved] : state.held) {
        if (reserved) {
          events.push_back(SlotFreed{link, id, absl::OkStatus()});
        } else {
          events.push_back(ReplyArrived{link, {.id = id}});
        }
      }
      state.held.clear();
    }
    step(std::move(events));
  }
  RC_ASSERT(world.asked.empty());
  RC_ASSERT(router.counts().queued == 0u);
  RC_ASSERT(router.counts().outstanding == 0u);
  for (const auto& [id, count] : world.outcomes) RC_ASSERT(count == 1);
}

}  // namespace
}  // namespace cenote::node
