// Goal: a request given to the client ends in exactly one outcome, by its deadline, whatever happens to routers and executors.
// Method: scripted events on a made-up clock, and a random walk that checks outcomes and credits.
#include "node/client.h"

#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace cenote::node {
namespace {

using ::testing::HasSubstr;

class ClientTest : public ::testing::Test {
 protected:
  static RequestId id(uint64_t n) { return {1, n}; }
  std::vector<ClientAction> step(std::vector<ClientEvent> events = {}) {
    std::vector<ClientAction> actions;
    keeper_.step(now_, events, actions);
    return actions;
  }
  template <typename T>
  static std::optional<T> find(const std::vector<ClientAction>& actions) {
    for (const auto& action : actions) {
      if (const T* found = std::get_if<T>(&action)) return *found;
    }
    return std::nullopt;
  }
  ClientSubmit small(uint64_t n) const { return {id(n), now_ + Duration::from_ms(1'000), 100}; }
  ClientSubmit large(uint64_t n) const { return {id(n), now_ + Duration::from_ms(1'000), 1 << 20}; }
  static Ticket ticket(uint64_t n) {
    return {.id = id(n), .executor_address = "h:9", .executor_incarnation = 7, .revision = {}, .expires_in = Duration::from_ms(500)};
  }

  Instant now_{1};
  RequestKeeper keeper_{2};
};

TEST_F(ClientTest, a_small_request_goes_whole_to_a_router_and_its_reply_ends_it) {
  step({RouterUp{0, 8}});
  const auto actions = step({small(1)});
  const auto send = find<SendToRouter>(actions);
  ASSERT_NE(send, std::nullopt);
  EXPECT_EQ(send->router, 0u);
  EXPECT_FALSE(send->header_only);
  EXPECT_EQ(send->budget.ns, Duration::from_ms(1'000).ns);
  const auto done = step({ReplyCame{id(1), absl::OkStatus()}});
  ASSERT_NE(find<ClientDone>(done), std::nullopt);
  EXPECT_TRUE(find<ClientDone>(done)->replied);
  EXPECT_EQ(keeper_.under_way(), 0u);
}

TEST_F(ClientTest, a_caller_whom_every_router_refuses_hears_it_at_once) {
  step({small(1)});
  EXPECT_EQ(find<ClientDone>(step({RouterDown{0, absl::PermissionDeniedError("revoked")}})), std::nullopt);  // The other may let us in.
  const auto done = find<ClientDone>(step({RouterDown{1, absl::PermissionDeniedError("revoked")}}));
  ASSERT_NE(done, std::nullopt);
  EXPECT_EQ(done->status.code(), absl::StatusCode::kPermissionDenied);
  step({RouterUp{0, 8}});
  EXPECT_NE(find<SendToRouter>(step({small(2)})), std::nullopt);
}

TEST_F(ClientTest, a_request_waits_for_a_router_and_goes_when_one_is_up) {
  EXPECT_EQ(find<SendToRouter>(step({small(1)})), std::nullopt);
  EXPECT_NE(find<SendToRouter>(step({RouterUp{1, 8}})), std::nullopt);
}

TEST_F(ClientTest, a_request_of_a_lost_router_is_sent_again_through_the_other) {
  step({RouterUp{0, 8}, RouterUp{1, 8}});
  const auto first = find<SendToRouter>(step({small(1)}));
  const size_t lost = first->router;
  EXPECT_EQ(find<SendToRouter>(step({RouterDown{lost, absl::UnavailableError("gone")}})), std::nullopt);
  now_ = keeper_.next_deadline();
  const auto again = step();
  ASSERT_NE(find<SendToRouter>(again), std::nullopt);
  EXPECT_EQ(find<SendToRouter>(again)->router, 1 - lost);
  EXPECT_EQ(find<SendToRouter>(again)->id, id(1));
}

TEST_F(ClientTest, unavailable_is_tried_again_and_any_other_status_is_the_answer) {
  step({RouterUp{0, 8}});
  step({small(1)});
  EXPECT_EQ(find<ClientDone>(step({ReplyCame{id(1), absl::UnavailableError("executor died"), 0}})), std::nullopt);
  now_ = keeper_.next_deadline();
  EXPECT_NE(find<SendToRouter>(step()), std::nullopt);
  const auto done = step({ReplyCame{id(1), absl::ResourceExhaustedError("queue full")}});
  EXPECT_TRUE(absl::IsResourceExhausted(find<ClientDone>(done)->status));
}

TEST_F(ClientTest, a_large_request_goes_as_a_header_then_by_its_ticket_to_the_executor) {
  step({RouterUp{0, 8}});
  EXPECT_TRUE(find<SendToRouter>(step({large(1)}))->header_only);
  EXPECT_EQ(find<OpenExecutor>(step({TicketCame{0, ticket(1)}}))->address, "h:9");
  EXPECT_NE(find<SendToExecutor>(step({ExecutorUp{"h:9", 7}})), std::nullopt);
  step({large(2)});
  EXPECT_NE(find<SendToExecutor>(step({TicketCame{0, ticket(2)}})), std::nullopt);  // The connection is kept.
}

TEST_F(ClientTest, an_executor_without_room_is_left_for_another_and_the_fourth_refusal_is_the_answer) {
  step({RouterUp{0, 8}, ExecutorUp{"h:9", 7}});
  step({large(1)});
  for (uint32_t i = 0; i < RequestKeeper::kRefusalsMax; ++i) {
    ASSERT_NE(find<SendToExecutor>(step({TicketCame{0, ticket(1)}})), std::nullopt);
    ASSERT_EQ(find<ClientDone>(step({ReplyCame{id(1), absl::ResourceExhaustedError("no room")}})), std::nullopt);
    now_ = keeper_.next_deadline();
    ASSERT_TRUE(find<SendToRouter>(step())->header_only);
  }
  step({TicketCame{0, ticket(1)}});
  EXPECT_TRUE(absl::IsResourceExhausted(find<ClientDone>(step({ReplyCame{id(1), absl::ResourceExhaustedError("no room")}}))->status));
}

TEST_F(ClientTest, a_small_request_whose_reply_will_be_large_goes_by_ticket_too) {
  step({RouterUp{0, 8}});
  ClientSubmit submit = small(1);
  submit.reply_bytes = kInlinePayloadBytesMax;
  EXPECT_FALSE(find<SendToRouter>(step({submit}))->header_only);
  submit.id = id(2);
  ++submit.reply_bytes;
  EXPECT_TRUE(find<SendToRouter>(step({submit}))->header_only);
}

TEST_F(ClientTest, a_ticket_of_an_executor_that_restarted_or_died_asks_for_another) {
  step({RouterUp{0, 8}});
  step({large(1)});
  step({TicketCame{0, ticket(1)}});
  EXPECT_EQ(find<SendToExecutor>(step({ExecutorUp{"h:9", 8}})), std::nullopt);
  now_ = keeper_.next_deadline();
  EXPECT_TRUE(find<SendToRouter>(step())->header_only);
  step({ExecutorDown{"h:9", absl::UnavailableError("reset")}});
  step({TicketCame{0, ticket(1)}});
  EXPECT_EQ(find<ClientDone>(step({ExecutorDown{"h:9", absl::UnavailableError("refused")}})), std::nullopt);
  now_ = keeper_.next_deadline();
  EXPECT_NE(find<SendToRouter>(step()), std::nullopt);
}

TEST_F(ClientTest, a_router_lost_after_the_ticket_does_not_disturb_the_request) {
  step({RouterUp{0, 8}, ExecutorUp{"h:9", 7}});
  step({large(1)});
  step({TicketCame{0, ticket(1)}});
  EXPECT_EQ(find<SendToRouter>(step({RouterDown{0, absl::UnavailableError("gone")}})), std::nullopt);
  EXPECT_TRUE(find<ClientDone>(step({ReplyCame{id(1), absl::OkStatus()}}))->replied);
}

TEST_F(ClientTest, what_was_cancelled_where_it_had_been_left_is_neither_an_answer_nor_a_reason_to_try_again) {
  step({RouterUp{0, 8}, ExecutorUp{"h:9", 7}});
  step({large(1)});
  step({TicketCame{0, ticket(1)}});
  const auto actions = step({ReplyCame{id(1), absl::CancelledError("cancelled while it ran"), SIZE_MAX, "h:8"}});
  EXPECT_EQ(find<ClientDone>(actions), std::nullopt);
  now_ = now_ + Duration::from_ms(600);
  EXPECT_EQ(find<SendToRouter>(step()), std::nullopt) << "it stays where it is";
  EXPECT_TRUE(find<ClientDone>(step({ReplyCame{id(1), absl::OkStatus(), SIZE_MAX, "h:9"}}))->replied);
}

TEST_F(ClientTest, what_its_executor_cancelled_unasked_is_tried_again) {
  step({RouterUp{0, 8}, ExecutorUp{"h:9", 7}});
  step({large(1)});
  step({TicketCame{0, ticket(1)}});
  EXPECT_EQ(find<ClientDone>(step({ReplyCame{id(1), absl::CancelledError("its router lost us"), SIZE_MAX, "h:9"}})), std::nullopt);
  now_ = keeper_.next_deadline();
  EXPECT_NE(find<SendToRouter>(step()), std::nullopt);
}

TEST_F(ClientTest, a_request_that_no_router_but_a_silent_one_could_take_waits_without_being_looked_at_again_and_again) {
  step({RouterUp{0, 8, Duration::from_ms(40)}});
  step({small(1)});
  now_ = now_ + Duration::from_ms(130);
  for (int i = 0; i < 8; ++i) {
    now_ = std::max(now_, std::min(keeper_.next_deadline(), now_ + Duration::from_ms(40)));
    step();
  }
  step({small(2)});
  EXPECT_GT(keeper_.next_deadline(), now_);
}

TEST_F(ClientTest, the_deadline_ends_it_and_says_what_failed_last) {
  step({RouterUp{0, 8}});
  step({small(1)});
  step({ReplyCame{id(1), absl::UnavailableError("executor agent-0/host:0 died"), 0}});
  now_ = now_ + Duration::from_ms(1'000);
  const auto actions = step();
  const auto done = find<ClientDone>(actions);
  ASSERT_NE(done, std::nullopt);
  EXPECT_TRUE(absl::IsDeadlineExceeded(done->status));
  EXPECT_THAT(std::string(done->status.message()), HasSubstr("agent-0/host:0 died"));
}

TEST_F(ClientTest, without_any_router_the_deadline_says_unreachable) {
  step({RouterDown{0, absl::UnavailableError("connection refused")}});
  step({small(1)});
  now_ = now_ + Duration::from_ms(1'000);
  const auto actions = step();
  EXPECT_TRUE(absl::IsUnavailable(find<ClientDone>(actions)->status));
  EXPECT_THAT(std::string(find<ClientDone>(actions)->status.message()), HasSubstr("connection refused"));
}

TEST_F(ClientTest, a_deadline_before_any_router_could_answer_is_only_too_short) {
  step({small(1)});
  now_ = now_ + Duration::from_ms(1'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(find<ClientDone>(step())->status));
}

TEST_F(ClientTest, no_more_than_its_credits_are_outstanding_at_a_router) {
  step({RouterUp{0, 1}});
  EXPECT_NE(find<SendToRouter>(step({small(1)})), std::nullopt);
  EXPECT_EQ(find<SendToRouter>(step({small(2)})), std::nullopt);
  EXPECT_NE(find<SendToRouter>(step({ReplyCame{id(1), absl::OkStatus()}})), std::nullopt);
}

TEST_F(ClientTest, a_cancelled_request_is_over_at_once_and_the_router_is_told) {
  step({RouterUp{0, 8}});
  step({small(1)});
  const auto actions = step({ClientCancel{id(1)}});
  EXPECT_NE(find<CancelAtRouter>(actions), std::nullopt);
  EXPECT_TRUE(absl::IsCancelled(find<ClientDone>(actions)->status));
}

TEST_F(ClientTest, in_a_random_walk_each_request_ends_once_and_credits_hold) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed);
    RequestKeeper keeper(3);
    Instant now{1};
    std::map<RequestId, int> outcomes;
    std::map<size_t, std::set<RequestId>> at_router;
    std::vector<uint32_t> credits(3, 0);
    std::vector<bool> up(3, false);
    uint64_t next = 1;
    const auto run = [&](std::vector<ClientEvent> events) {
      std::vector<ClientAction> actions;
      keeper.step(now, events, actions);
      for (const auto& action : actions) {
        if (const auto* send = std::get_if<SendToRouter>(&action)) {
          ASSERT_TRUE(up[send->router]) << "seed " << seed;
          at_router[send->router].insert(send->id);
          ASSERT_LE(at_router[send->router].size(), credits[send->router]) << "seed " << seed;
        } else if (const auto* done = std::get_if<ClientDone>(&action)) {
          ASSERT_EQ(++outcomes[done->id], 1) << "seed " << seed;
          for (auto& [router, ids] : at_router) ids.erase(done->id);
        }
      }
    };
    for (int i = 0; i < 200; ++i) {
      const size_t r = rng.below(3);
      now = now + Duration::from_ms(static_cast<int64_t>(rng.below(20)));
      switch (rng.below(6)) {
        case 0: up[r] = true; credits[r] = std::max<uint32_t>(at_router[r].size(), 1 + rng.below(4)); run({RouterUp{r, credits[r]}}); break;
        case 1: up[r] = false; at_router[r].clear(); run({RouterDown{r, absl::UnavailableError("x")}}); break;
        case 2: run({ClientSubmit{id(next++), now + Duration::from_ms(200), rng.below(2) ? 10ull : 1ull << 20}}); break;
        case 3: case 4:
          if (!at_router[r].empty()) {
            const RequestId chosen = *at_router[r].begin();
            at_router[r].erase(chosen);
            if (rng.below(2)) run({ReplyCame{chosen, rng.below(2) ? absl::OkStatus() : absl::UnavailableError("y"), r}});
            else run({TicketCame{r, Ticket{.id = chosen, .executor_address = "e", .executor_incarnation = 1 + rng.below(2)}}});
          }
          break;
        default: run({rng.below(2) ? ClientEvent{ExecutorUp{"e", 1 + rng.below(2)}} : ClientEvent{ExecutorDown{"e", absl::UnavailableError("z")}}});
      }
    }
    now = now + Duration::from_ms(1'000);
    run({});
    EXPECT_EQ(keeper.under_way(), 0u);
    EXPECT_EQ(outcomes.size(), next - 1);
  }
}

}  // namespace
}  // namespace cenote::node
