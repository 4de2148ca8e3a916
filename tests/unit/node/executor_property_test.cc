// Goal: whatever routers, callers and a device do, an executor answers each request once, keeps its bounds and drains. Method: a random walk
// with room for two revisions, whose loads and runs fail at random.
#include "executor_actions.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace cenote::node {
namespace {

using namespace executor;

RC_GTEST_PROP(ExecutorWalk, each_request_is_answered_once_nothing_exceeds_its_bound_and_all_drains, ()) {
  const ExecutorOptions options{.name = "e", .credits = 3, .queue_max = 5};
  Executor executor(options);
  Instant now{1};
  constexpr size_t kRoom = 2;
  std::set<Digest> opening, open, closing;
  std::deque<RequestId> running;  // In order; all of one revision.
  std::optional<Digest> warming;
  std::map<RequestId, SessionId> answers_due;  // Direct requests of live sessions.
  std::map<RequestId, SessionId> frees_due;    // Reservations of live sessions.
  std::map<SessionId, std::set<RequestId>> outstanding;
  std::map<RequestId, Digest> revision_of;
  const auto step = [&](std::vector<Event> events) {
    std::vector<Action> actions;
    executor.step(now, events, actions);
    for (const Action& action : actions) {
      if (const auto* reply = std::get_if<SendReply>(&action)) {
        RC_ASSERT(outstanding.contains(reply->session));
        if (answers_due.contains(reply->reply.id) && answers_due[reply->reply.id] == reply->session) answers_due.erase(reply->reply.id);
        outstanding[reply->session].erase(reply->reply.id);
      } else if (const auto* freed = std::get_if<SendFreed>(&action)) {
        RC_ASSERT(outstanding.contains(freed->session));
        RC_ASSERT(outstanding[freed->session].erase(freed->id) == 1u);
        if (answers_due.contains(freed->id) && answers_due[freed->id] == freed->session) answers_due.erase(freed->id);
        if (frees_due.contains(freed->id) && frees_due[freed->id] == freed->session) frees_due.erase(freed->id);
      } else if (const auto* opened = std::get_if<OpenRevision>(&action)) {
        RC_ASSERT(!open.contains(opened->revision) && !closing.contains(opened->revision));
        opening.insert(opened->revision);
      } else if (const auto* closed = std::get_if<CloseRevision>(&action)) {
        RC_ASSERT(open.erase(closed->revision) == 1u);
        RC_ASSERT(!warming || *warming != closed->revision);
        RC_ASSERT(running.empty() || revision_of[running.front()] != closed->revision);
        closing.insert(closed->revision);
      } else if (const auto* run = std::get_if<RunModel>(&action)) {
        RC_ASSERT(!warming && open.contains(run->revision) && running.size() < Executor::kAheadMax);
        RC_ASSERT(running.empty() || revision_of[running.front()] == run->revision);
        running.push_back(run->id);
      } else if (const auto* warm = std::get_if<WarmUp>(&action)) {
        RC_ASSERT(running.empty() && !warming && open.contains(warm->revision));
        warming = warm->revision;
      }
    }
    ExecutorReport report;
    executor.fill_report(report);
    RC_ASSERT(report.running <= options.queue_max + Executor::kAheadMax);
  };
  const auto answer_world = [&](int luck) {
    std::vector<Event> events;
    if (!opening.empty()) {
      const Digest revision = *opening.begin();
      opening.erase(opening.begin());
      absl::Status status;
      if (open.size() + closing.size() >= kRoom) status = absl::ResourceExhaustedError("full");
      if (luck < 10) status = absl::UnavailableError("no replica");
      if (status.ok()) open.insert(revision);
      step({RevisionOpened{revision, status, luck % 2 == 0}});
    } else if (!closing.empty()) {
      const Digest revision = *closing.begin();
      closing.erase(closing.begin());
      step({RevisionClosed{revision}});
    }
    for (const Digest& revision : std::set<Digest>(open)) {
      if (luck % 3 == 0) step({ReadinessChanged{revision, luck == 99 ? Readiness::kFailed : Readiness::kMapped, absl::UnavailableError("x")}});
    }
    if (!running.empty()) {
      const RequestId id = running.front();
      running.pop_front();
      step({RunEnded{.id = id, .status = luck < 20 ? absl::UnavailableError("gate") : absl::OkStatus(),
                     .stages = {.compute_us = luck % 4 == 0 ? 60'000 : 60}}});
    } else if (warming) {
      const Digest revision = *warming;
      warming.reset();
      step({WarmUpEnded{revision, luck < 5 ? absl::UnavailableError("gate") : absl::OkStatus()}});
    }
  };
  uint64_t next_id = 1;
  SessionId next_session = 1;
  const int moves = *rc::gen::inRange(0, 300);
  for (int move = 0; move < moves; ++move) {
    now = now + Duration::from_ms(*rc::gen::inRange(0, 30));
    const int kind = *rc::gen::inRange(0, 100);
    const auto session = [&] {
      auto it = outstanding.begin();
      std::advance(it, *rc::gen::inRange<size_t>(0, outstanding.size()));
      return it->first;
    };
    const Digest revision = digest(static_cast<uint8_t>(*rc::gen::inRange(1, 5)));
    if (kind < 8 || outstanding.empty()) {
      outstanding[next_session];
      step({SessionOpened{next_session++}});
    } else if (kind < 11) {
      const SessionId gone = session();
      outstanding.erase(gone);
      std::erase_if(answers_due, [&](const auto& e) { return e.second == gone; });
      std::erase_if(frees_due, [&](const auto& e) { return e.second == gone; });
      step({SessionClosed{gone}});
    } else if (kind < 35) {
      const SessionId from = session();
      const bool again = kind < 15 && !answers_due.empty();
      const RequestId id = again ? answers_due.begin()->first : RequestId{1, next_id++};
      const Digest of_id = again ? revision_of[id] : revision;
      revision_of[id] = of_id;
      answers_due[id] = from;
      outstanding[from].insert(id);
      // A resend through a new session supersedes the old one, which is told SendFreed.
      const Duration budget = Duration::from_ms(*rc::gen::inRange(1, 500));
      step({RequestArrived{from, std::make_shared<InferRequest>(InferRequest{.id = id, .revision = of_id, .budget = budget})}});
    } else if (kind < 42) {
      const SessionId from = session();
      const RequestId id{2, next_id++};
      frees_due[id] = from;
      outstanding[from].insert(id);
      revision_of[id] = revision;
      step({ReserveArrived{from, id, revision, Duration::from_ms(100)}});
    } else if (kind < 48 && !frees_due.empty()) {
      const SessionId from = session();
      const RequestId id = frees_due.begin()->first;
      if (frees_due[id] != from) {
        step({RequestArrived{from, std::make_shared<InferRequest>(InferRequest{.id = id, .revision = revision_of[id],
                                                                               .budget = Duration::from_ms(200), .by_ticket = true})}});
      }
    } else if (kind < 52) {
      std::vector<Digest> list;
      for (uint8_t n = 1; n < 5; ++n) {
        if (*rc::gen::arbitrary<bool>()) list.push_back(digest(n));
      }
      step({PrefetchChanged{list}});
    } else if (kind < 54) {
      step({EvictAsked{revision}});
    } else if (kind < 57 && !answers_due.empty()) {
      step({CancelArrived{answers_due.begin()->second, answers_due.begin()->first}});
    } else {
      answer_world(*rc::gen::inRange(0, 100));
    }
  }
  step({PrefetchChanged{}});
  for (int round = 0; round < 300; ++round) {
    now = now + Duration::from_ms(20);
    step({});
    answer_world(50);
  }
  RC_ASSERT(answers_due.empty());
  RC_ASSERT(frees_due.empty());
  RC_ASSERT(running.empty() && !warming);
  ExecutorReport report;
  executor.fill_report(report);
  RC_ASSERT(report.running == 0u);
}

}  // namespace
}  // namespace cenote::node
