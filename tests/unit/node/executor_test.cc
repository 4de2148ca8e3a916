// Goal: an executor admits what it has room for, runs each request id once, answers each exactly once, and holds the revisions it is
// assigned or asked for within its memory. Method: the state machine alone.
#include "executor_actions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cenote::node {
namespace {

using namespace executor;
using testing::HasSubstr;

class ExecutorTest : public testing::Test {
 protected:
  ExecutorTest() { step({SessionOpened{1}}); }
  std::vector<Action> step(std::vector<Event> events = {}) {
    std::vector<Action> actions;
    executor_.step(now_, events, actions);
    return actions;
  }
  std::vector<Action> pass(Duration time) {
    now_ = now_ + time;
    return step();
  }
  static RequestId id(uint64_t n) { return {.high = 7, .low = n}; }
  static Event request(uint64_t n, uint8_t revision = 1, SessionId session = 1, bool by_ticket = false,
                       Duration budget = Duration::from_seconds(10), uint64_t bytes = 0) {
    return RequestArrived{session, std::make_shared<InferRequest>(InferRequest{.id = id(n), .model = "bert", .revision = digest(revision),
                                                                               .budget = budget, .payload_bytes = bytes,
                                                                               .by_ticket = by_ticket})};
  }
  static Event ended(uint64_t n, absl::Status status = absl::OkStatus(), size_t output_bytes = 4) {
    return RunEnded{.id = id(n), .status = std::move(status),
                    .outputs = {{.name = "y", .shape = {static_cast<int64_t>(output_bytes / 4)}, .bytes = std::string(output_bytes, 'y')}}};
  }
  void open(uint8_t revision = 1) {
    step({PrefetchChanged{{digest(revision)}}});
    step({RevisionOpened{digest(revision), absl::OkStatus(), true}});
    ASSERT_EQ(of<WarmUp>(step({ReadinessChanged{digest(revision), Readiness::kMapped}})).size(), 1u);
    step({WarmUpEnded{digest(revision)}});
  }
  Readiness readiness(uint8_t revision) {
    ExecutorReport report;
    executor_.fill_report(report);
    for (const RevisionState& state : report.revisions) {
      if (state.revision == digest(revision)) return state.readiness;
    }
    return Readiness::kNone;
  }

  Executor executor_{{.name = "agent-0/host:0", .credits = 4, .queue_max = 5, .held_bytes_max = 1000, .payload_bytes_max = 2000}};
  Instant now_{1'000'000'000};
};

TEST_F(ExecutorTest, a_cold_request_opens_its_revision_urgently_and_runs_while_weights_arrive) {
  auto actions = step({request(1)});
  ASSERT_EQ(of<OpenRevision>(actions).size(), 1u);
  EXPECT_TRUE(of<OpenRevision>(actions)[0].urgent);
  EXPECT_TRUE(of<RunModel>(actions).empty());
  now_ = now_ + Duration::from_ms(3);
  const auto runs = of<RunModel>(step({RevisionOpened{digest(1), absl::OkStatus(), false}}));
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_TRUE(runs[0].loading);
  now_ = now_ + Duration::from_ms(7);
  const auto replies = of<SendReply>(step({ended(1)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_TRUE(replies[0].reply.status.ok());
  EXPECT_EQ(replies[0].reply.waterfall.temperature, Temperature::kCold);
  EXPECT_EQ(replies[0].reply.waterfall.resolve_us, 3000);
  EXPECT_EQ(replies[0].reply.waterfall.total_us, 10000);
  EXPECT_EQ(replies[0].reply.executor, "agent-0/host:0");
}

TEST_F(ExecutorTest, an_assigned_revision_is_opened_warmed_up_and_reported_ready_only_then) {
  const auto opens = of<OpenRevision>(step({PrefetchChanged{{digest(1)}}}));
  ASSERT_EQ(opens.size(), 1u);
  EXPECT_FALSE(opens[0].urgent);
  step({RevisionOpened{digest(1), absl::OkStatus(), false}});
  EXPECT_EQ(readiness(1), Readiness::kLoading);
  EXPECT_EQ(of<WarmUp>(step({ReadinessChanged{digest(1), Readiness::kMapped}})).size(), 1u);
  EXPECT_EQ(readiness(1), Readiness::kCached);
  step({WarmUpEnded{digest(1)}});
  EXPECT_EQ(readiness(1), Readiness::kMapped);
}

TEST_F(ExecutorTest, a_model_that_refuses_the_zeros_of_its_warm_up_is_ready_and_runs_who_waits) {
  step({PrefetchChanged{{digest(1)}}});
  step({RevisionOpened{digest(1), absl::OkStatus(), true}});
  ASSERT_EQ(of<WarmUp>(step({ReadinessChanged{digest(1), Readiness::kMapped}})).size(), 1u);
  step({request(1)});
  const auto actions = step({WarmUpEnded{digest(1), absl::InternalError("operator 'aten::floor_divide': ZeroDivisionError")}});
  EXPECT_TRUE(of<SendReply>(actions).empty());
  ASSERT_EQ(of<RunModel>(actions).size(), 1u);
  EXPECT_EQ(readiness(1), Readiness::kMapped);
  EXPECT_TRUE(of<SendReply>(step({ended(1)})).at(0).reply.status.ok());
}

TEST_F(ExecutorTest, temperature_tells_the_first_request_of_a_ready_revision_from_later_ones) {
  open();
  step({request(1)});
  EXPECT_EQ(of<SendReply>(step({ended(1)}))[0].reply.waterfall.temperature, Temperature::kCached);
  const auto runs = of<RunModel>(step({request(2)}));
  EXPECT_FALSE(runs[0].loading);
  EXPECT_EQ(of<SendReply>(step({ended(2)}))[0].reply.waterfall.temperature, Temperature::kResident);
  EXPECT_EQ(readiness(1), Readiness::kResident);
}

TEST_F(ExecutorTest, requests_run_one_at_a_time_in_order_and_one_that_is_being_opened_holds_up_nobody) {
  open();
  auto runs = of<RunModel>(step({request(1), request(2, 2), request(3)}));
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].id, id(1));
  runs = of<RunModel>(step({ended(1)}));
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].id, id(3));
  EXPECT_TRUE(of<RunModel>(step({RevisionOpened{digest(2), absl::OkStatus(), true}})).empty());
  EXPECT_EQ(of<RunModel>(step({ended(3)}))[0].id, id(2));
}

TEST_F(ExecutorTest, a_session_beyond_its_credits_is_refused) {
  open();
  const auto actions = step({request(1), request(2), request(3), request(4), request(5)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(of<SendReply>(actions)[0].reply.status.message()), HasSubstr("credits are 4"));
}

TEST_F(ExecutorTest, a_full_queue_refuses_whatever_the_credits) {
  open();
  step({SessionOpened{2}, request(1), request(2), request(3), request(4)});
  const auto actions = step({request(11, 1, 2), request(12, 1, 2), request(13, 1, 2)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_THAT(std::string(of<SendReply>(actions)[0].reply.status.message()), HasSubstr("queue_max is 5"));
}

TEST_F(ExecutorTest, waiting_payloads_are_bounded_together) {
  open();
  const auto actions = step({request(1, 1, 1, false, Duration::from_seconds(9), 600), request(2, 1, 1, false, Duration::from_seconds(9), 600)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ExecutorTest, a_duplicate_of_a_running_id_runs_once_and_answers_the_newest_session) {
  open();
  step({SessionOpened{2}, request(1)});
  auto actions = step({request(1, 1, 2)});
  EXPECT_TRUE(of<RunModel>(actions).empty());
  ASSERT_EQ(of<SendFreed>(actions).size(), 1u);
  EXPECT_EQ(of<SendFreed>(actions)[0].session, 1u);
  actions = step({ended(1)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].session, 2u);
}

TEST_F(ExecutorTest, a_running_request_that_was_cancelled_and_is_asked_for_again_is_answered) {
  open();
  step({SessionOpened{2}});
  step({request(1)});
  step({CancelArrived{1, id(1)}});  // Its router lost the caller, who has gone to another one.
  step({request(1, 1, 2)});
  const auto replies = of<SendReply>(step({ended(1)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].session, 2u);
  EXPECT_TRUE(replies[0].reply.status.ok()) << replies[0].reply.status;
}

TEST_F(ExecutorTest, a_finished_id_is_answered_from_memory_if_small_and_run_again_if_large) {
  open();
  step({request(1)});
  step({ended(1)});
  auto actions = step({request(1)});
  EXPECT_TRUE(of<RunModel>(actions).empty());
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.outputs[0].bytes, "yyyy");
  step({request(2)});
  step({ended(2, absl::OkStatus(), Executor::kRememberedBytesMax + 4)});
  EXPECT_EQ(of<RunModel>(step({request(2)})).size(), 1u);
  step({ended(2)});
  pass(Executor::kReplyMemory);
  EXPECT_EQ(of<RunModel>(step({request(1)})).size(), 1u);
}

TEST_F(ExecutorTest, a_ticket_uses_the_slot_that_its_router_reserved_and_tells_it_when_done) {
  open();
  step({SessionOpened{2}});
  EXPECT_TRUE(step({ReserveArrived{1, id(1), digest(1), Duration::from_seconds(5)}}).empty());
  EXPECT_EQ(of<RunModel>(step({request(1, 1, 2, true)})).size(), 1u);
  const auto actions = step({ended(1)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].session, 2u);
  ASSERT_EQ(of<SendFreed>(actions).size(), 1u);
  EXPECT_EQ(of<SendFreed>(actions)[0].session, 1u);
}

TEST_F(ExecutorTest, a_payload_that_is_faster_than_its_reservation_is_answered_all_the_same) {
  open();
  step({SessionOpened{2}});
  step({request(1, 1, 2, true)});
  EXPECT_TRUE(step({ReserveArrived{1, id(1), digest(1), Duration::from_seconds(5)}}).empty());
  const auto actions = step({ended(1)});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].session, 2u);
  ASSERT_EQ(of<SendFreed>(actions).size(), 1u);
  EXPECT_EQ(of<SendFreed>(actions)[0].session, 1u);
}

TEST_F(ExecutorTest, a_reservation_that_comes_after_its_request_has_ended_is_freed_at_once) {
  open();
  step({SessionOpened{2}});
  for (const bool well : {true, false}) {
    const uint64_t n = well ? 1 : 2;
    step({request(n, 1, 2, true)});
    ASSERT_EQ(of<SendReply>(step({ended(n, well ? absl::OkStatus() : absl::InvalidArgumentError("input 'x'"))})).size(), 1u);
    const auto freed = of<SendFreed>(step({ReserveArrived{1, id(n), digest(1), Duration::from_seconds(5)}}));
    ASSERT_EQ(freed.size(), 1u);
    EXPECT_EQ(freed[0].session, 1u);
    // Once: a later one is a new try of the same caller.
    EXPECT_TRUE(step({ReserveArrived{1, id(n), digest(1), Duration::from_seconds(5)}}).empty());
  }
}

TEST_F(ExecutorTest, a_reservation_that_is_not_used_is_freed_when_it_expires) {
  step({ReserveArrived{1, id(1), digest(1), Duration::from_seconds(5)}});
  const auto freed = of<SendFreed>(pass(Duration::from_seconds(5)));
  ASSERT_EQ(freed.size(), 1u);
  EXPECT_EQ(freed[0].status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ExecutorTest, a_queued_request_ends_at_its_deadline_and_a_cancelled_one_at_once) {
  open();
  step({request(1), request(2, 1, 1, false, Duration::from_ms(50)), request(3)});
  auto replies = of<SendReply>(pass(Duration::from_ms(50)));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kDeadlineExceeded);
  replies = of<SendReply>(step({CancelArrived{1, id(3)}, CancelArrived{1, id(1)}}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.id, id(3));
  replies = of<SendReply>(step({ended(1)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(replies[0].reply.outputs.empty());
}

TEST_F(ExecutorTest, weights_that_cannot_be_had_end_as_unavailable_and_the_revision_is_opened_anew) {
  step({request(1)});
  step({RevisionOpened{digest(1), absl::OkStatus(), false}});
  auto actions = step({ended(1, absl::DataLossError("block 1f"))});
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(of<CloseRevision>(actions).size(), 1u);
  step({request(2)});
  EXPECT_EQ(of<OpenRevision>(step({RevisionClosed{digest(1)}})).size(), 1u);
}

TEST_F(ExecutorTest, a_revision_that_cannot_be_opened_fails_its_requests_with_the_reason) {
  step({request(1), request(2)});
  const auto replies = of<SendReply>(step({RevisionOpened{digest(1), absl::UnimplementedError("operator aten::foo")}}));
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(readiness(1), Readiness::kFailed);
}

TEST_F(ExecutorTest, an_assigned_revision_whose_weights_were_missing_is_tried_again_after_a_while) {
  step({PrefetchChanged{{digest(1)}}});
  EXPECT_TRUE(of<OpenRevision>(step({RevisionOpened{digest(1), absl::UnavailableError("no replica")}})).empty());
  EXPECT_EQ(executor_.next_deadline(), now_ + Executor::kReopenAfter);
  EXPECT_EQ(of<OpenRevision>(pass(Executor::kReopenAfter)).size(), 1u);
}

TEST_F(ExecutorTest, for_want_of_room_the_least_recently_used_idle_revision_is_closed) {
  open(1);
  step({PrefetchChanged{}, request(2, 2)});
  step({RevisionOpened{digest(2), absl::OkStatus(), true}});
  step({ended(2)});
  step({request(3, 3)});
  const auto closed = of<CloseRevision>(step({RevisionOpened{digest(3), absl::ResourceExhaustedError("0 B free")}}));
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_EQ(closed[0].revision, digest(1));
  const auto opens = of<OpenRevision>(step({RevisionClosed{digest(1)}}));
  ASSERT_EQ(opens.size(), 1u);
  EXPECT_EQ(opens[0].revision, digest(3));
}

TEST_F(ExecutorTest, an_assignment_never_pushes_out_another_assigned_revision) {
  open(1);
  step({PrefetchChanged{{digest(1), digest(2)}}});
  const auto actions = step({RevisionOpened{digest(2), absl::ResourceExhaustedError("0 B free")}});
  EXPECT_TRUE(of<CloseRevision>(actions).empty());
  EXPECT_TRUE(of<OpenRevision>(actions).empty());
  EXPECT_EQ(readiness(1), Readiness::kMapped);
}

TEST_F(ExecutorTest, without_any_room_a_request_is_refused_so_that_it_is_tried_elsewhere) {
  step({request(1)});
  const auto replies = of<SendReply>(step({RevisionOpened{digest(1), absl::ResourceExhaustedError("0 B free")}}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ExecutorTest, room_made_for_a_request_is_not_taken_by_what_was_closed_for_it) {
  open(1);
  step({PrefetchChanged{{digest(1), digest(3)}}});
  step({RevisionOpened{digest(3), absl::OkStatus(), true}});
  step({request(2, 2)});
  const auto first = of<CloseRevision>(step({RevisionOpened{digest(2), absl::ResourceExhaustedError("1 B free")}}));
  ASSERT_EQ(first.size(), 1u);
  auto opens = of<OpenRevision>(step({RevisionClosed{first[0].revision}}));
  ASSERT_EQ(opens.size(), 1u);  // Not the one that was closed, though it is assigned.
  EXPECT_EQ(opens[0].revision, digest(2));
  const auto second = of<CloseRevision>(step({RevisionOpened{digest(2), absl::ResourceExhaustedError("2 B free")}}));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].revision, first[0].revision);
  step({RevisionClosed{second[0].revision}});
  opens = of<OpenRevision>(step({RevisionOpened{digest(2), absl::OkStatus(), true}}));
  EXPECT_EQ(opens.size(), 2u);  // Now what is assigned comes back, if it fits.
}

TEST_F(ExecutorTest, a_revision_that_its_agent_does_not_know_is_asked_for_elsewhere_and_again) {
  step({PrefetchChanged{{digest(1)}}});
  step({request(1)});
  const auto actions = step({RevisionOpened{digest(1), absl::NotFoundError("not among those deployed for this host")}});
  ASSERT_EQ(of<SendReply>(actions).size(), 1u);
  EXPECT_EQ(of<SendReply>(actions)[0].reply.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(of<OpenRevision>(pass(Executor::kReopenAfter)).size(), 1u);
}

TEST_F(ExecutorTest, a_revision_that_can_never_fit_closes_no_other) {
  open(1);
  step({request(2, 2)});
  const auto actions = step({RevisionOpened{digest(2), absl::OutOfRangeError("model of 4 GiB, device of 1 GiB")}});
  EXPECT_TRUE(of<CloseRevision>(actions).empty());
  const auto replies = of<SendReply>(actions);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(readiness(2), Readiness::kFailed);
}

TEST_F(ExecutorTest, a_prefetch_that_is_called_off_is_no_failure_and_a_request_opens_the_revision_anew) {
  step({PrefetchChanged{{digest(1)}}});
  step({request(1)});
  step({PrefetchChanged{}});
  const auto actions = step({RevisionOpened{digest(1), absl::CancelledError("evicted")}});
  EXPECT_TRUE(of<SendReply>(actions).empty());
  ASSERT_EQ(of<OpenRevision>(actions).size(), 1u);
  EXPECT_TRUE(of<OpenRevision>(actions)[0].urgent);
}

TEST_F(ExecutorTest, a_reply_larger_than_a_payload_may_be_is_refused_and_not_tried_elsewhere) {
  open();
  step({request(1)});
  step({ended(1, absl::OkStatus(), 2000)});
  step({request(2)});
  const auto replies = of<SendReply>(step({ended(2, absl::OkStatus(), 2004)}));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].reply.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(replies[0].reply.status.message()), HasSubstr("limits.payload_max"));
  EXPECT_TRUE(replies[0].reply.outputs.empty());
}

TEST_F(ExecutorTest, eviction_waits_for_the_run_and_then_closes) {
  open();
  step({request(1)});
  EXPECT_TRUE(of<CloseRevision>(step({EvictAsked{digest(1)}})).empty());
  EXPECT_EQ(of<CloseRevision>(step({ended(1)})).size(), 1u);
  EXPECT_TRUE(of<OpenRevision>(step({RevisionClosed{digest(1)}})).empty());
}

TEST_F(ExecutorTest, draining_frees_reservations_refuses_and_finishes_what_it_has) {
  open();
  step({request(1), ReserveArrived{1, id(2), digest(1), Duration::from_seconds(5)}});
  const auto actions = step({DrainBegan{}});
  EXPECT_EQ(of<SendFreed>(actions).size(), 1u);
  ASSERT_EQ(of<Announce>(actions).size(), 1u);
  EXPECT_TRUE(of<Announce>(actions)[0].draining);
  EXPECT_EQ(of<SendReply>(step({request(3)}))[0].reply.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(executor_.drained());
  step({ended(1)});
  EXPECT_TRUE(executor_.drained());
}

TEST_F(ExecutorTest, short_runs_are_handed_over_together_and_long_ones_one_by_one) {
  open();
  step({SessionOpened{2}});
  const auto took = [](uint64_t n, int64_t compute_us) { return RunEnded{.id = id(n), .stages = {.compute_us = compute_us}}; };
  ASSERT_EQ(of<RunModel>(step({request(1), request(2), request(3), request(4)})).size(), 1u);  // How long they take is not known.
  const auto runs = of<RunModel>(step({took(1, 20)}));
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].id, id(2));
  EXPECT_EQ(runs[2].id, id(4));
  EXPECT_EQ(of<RunModel>(step({request(5), request(6, 2, 2)})).size(), 1u);
  EXPECT_TRUE(of<RunModel>(step({RevisionOpened{digest(2), absl::OkStatus(), true}, request(7, 1, 2)})).empty());  // Not past another's turn.
  step({took(2, 20), took(3, 20), took(4, 5'000)});
  const auto other = of<RunModel>(step({took(5, 5'000)}));
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].id, id(6));
}

TEST_F(ExecutorTest, a_run_that_failed_does_not_make_a_long_model_count_as_short) {
  open();
  step({request(1), request(2), request(3), request(4)});
  const auto took = [](uint64_t n, absl::Status status, int64_t compute_us) {
    return RunEnded{.id = id(n), .status = std::move(status), .stages = {.compute_us = compute_us}};
  };
  EXPECT_EQ(of<RunModel>(step({took(1, absl::OkStatus(), 5'000)})).size(), 1u);
  EXPECT_EQ(of<RunModel>(step({took(2, absl::InvalidArgumentError("x: shape"), 0)})).size(), 1u);
}

TEST_F(ExecutorTest, a_revision_that_others_still_run_on_is_closed_after_the_last_of_them) {
  open();
  step({request(1)});
  step({RunEnded{.id = id(1), .stages = {.compute_us = 20}}});
  ASSERT_EQ(of<RunModel>(step({request(2), request(3)})).size(), 2u);
  EXPECT_TRUE(of<CloseRevision>(step({ended(2, absl::UnavailableError("lost"))})).empty());
  EXPECT_EQ(of<CloseRevision>(step({ended(3)})).size(), 1u);
}

TEST_F(ExecutorTest, a_lost_routers_request_still_runs_and_its_reply_is_found_by_the_next) {
  open();
  step({request(1), SessionClosed{1}});
  EXPECT_TRUE(of<SendReply>(step({ended(1)})).empty());
  step({SessionOpened{2}});
  const auto actions = step({request(1, 1, 2)});
  EXPECT_TRUE(of<RunModel>(actions).empty());
  EXPECT_EQ(of<SendReply>(actions).size(), 1u);
}

}  // namespace
}  // namespace cenote::node
