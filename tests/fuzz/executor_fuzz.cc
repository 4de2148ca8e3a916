// Goal: whatever routers and callers with tickets send, and however loading and computing fail, an executor stays within its bounds, runs
// one thing at a time, only what is open, and drains.
// Input: fuzz::Script; what the executor asks its device for is answered when a record says so.
#include <array>
#include <deque>
#include <set>

#include "node/executor.h"
#include "script.h"

namespace cenote {
namespace {

using namespace node;
using namespace node::executor;
using fuzz::Record;

class World final : fuzz::Surroundings<Event> {
 public:
  World() : machine_(options()) {}

  void play(const Record& record) {
    SessionId& session = sessions_[record.who % sessions_.size()];
    if (session == 0) {
      session = next_session_++;
      live_.insert(session);
      feed(SessionOpened{session});
    }
    switch (record.kind % 10) {
      case 0:
      case 1: said(record, session); break;
      case 2:
        live_.erase(session);
        feed(SessionClosed{std::exchange(session, 0)});
        break;
      case 3: feed(AgentBeat{Duration::from_ms(static_cast<int64_t>(record.number() % 200))}); break;
      case 4: {
        PrefetchChanged prefetch;
        for (const char c : record.bytes) prefetch.revisions.push_back(Digest{{static_cast<uint8_t>(c)}});
        fuzz::fold(prefetch.revisions);
        feed(std::move(prefetch));
        break;
      }
      case 5: feed(EvictAsked{digest(record.who)}); break;
      case 6:
      case 7:
      case 8: answer(record.who); break;
      case 9: pass(Duration::from_ms(static_cast<int64_t>(record.number() % 1'000))); break;
    }
  }
  void end() {
    feed(DrainBegan{});
    for (int i = 0; i < 400 && !machine_.drained(); ++i) {
      for (int n = 0; n < 8; ++n) answer(0);
      pass(Duration::from_ms(500));
    }
    CENOTE_CHECK(machine_.drained());
  }

 private:
  static ExecutorOptions options() { return {.name = "agent-0/host:0", .credits = 3, .queue_max = 6, .held_bytes_max = 4'096, .payload_bytes_max = 4'096}; }
  static Digest digest(uint8_t n) {
    Digest digest{{n}};
    fuzz::fold(digest);
    return digest.empty() ? Digest{{1}} : digest;
  }

  void said(const Record& record, SessionId session) {
    auto up = fuzz::message<v1::InferenceUp>(record);
    if (!up) return;
    if (auto* request = std::get_if<InferRequest>(&*up)) {
      fuzz::fold(request->id);
      fuzz::fold(request->revision);
      feed(RequestArrived{session, std::make_shared<InferRequest>(std::move(*request))});
    } else if (auto* cancel = std::get_if<wire::CancelInfer>(&*up)) {
      fuzz::fold(cancel->id);
      feed(CancelArrived{session, cancel->id});
    } else if (auto* reserve = std::get_if<wire::ReserveSlot>(&*up)) {
      fuzz::fold(reserve->id);
      fuzz::fold(reserve->revision);
      feed(ReserveArrived{session, reserve->id, reserve->revision, reserve->expires_in});
    }
  }

  // The oldest thing the device was asked for ends, well or not.
  void answer(uint8_t luck) {
    if (!asked_.empty()) {
      const Event event = std::move(asked_.front());
      asked_.pop_front();
      return answer_with(event, luck);
    }
    for (const Digest& revision : std::set<Digest>(open_)) {
      feed(ReadinessChanged{revision, luck == 99 ? Readiness::kFailed : Readiness::kMapped, luck == 99 ? absl::UnavailableError("gone") : absl::OkStatus()});
    }
  }
  void answer_with(Event event, uint8_t luck) {
    if (auto* opened = std::get_if<RevisionOpened>(&event)) {
      if (luck % 8 == 5) opened->status = absl::UnavailableError("no replica");
      if (luck % 8 == 6) opened->status = absl::OutOfRangeError("larger than the cache");
      if (luck % 8 == 7 || open_.size() >= 3) opened->status = absl::ResourceExhaustedError("no room");
      opened->all_cached = luck % 2 == 1;
      opening_.erase(opened->revision);
      if (opened->status.ok()) open_.insert(opened->revision);
    } else if (auto* closed = std::get_if<RevisionClosed>(&event)) {
      closing_.erase(closed->revision);
    } else if (auto* ended = std::get_if<RunEnded>(&event)) {
      --runs_;
      if (luck % 8 == 5) ended->status = absl::UnavailableError("gate");
      if (luck % 8 == 6) ended->outputs.push_back({.name = "y", .dtype = DType::kU8, .shape = {luck * 64}, .bytes = std::string(luck * size_t{64}, 'y')});
    } else if (auto* warmed = std::get_if<WarmUpEnded>(&event)) {
      warming_ = false;
      if (luck % 8 == 5) warmed->status = absl::UnavailableError("gate");
    }
    feed(std::move(event));
  }

  void step(std::vector<Event> events) override {
    std::vector<Action> actions;
    machine_.step(now_, events, actions);
    for (const Action& action : actions) std::visit([&](const auto& a) { perform(a); }, action);
    ExecutorReport report;
    machine_.fill_report(report);
    CENOTE_CHECK(report.running <= options().queue_max + 1);
  }

  void perform(const SendReply& a) { CENOTE_CHECK(live_.contains(a.session)); }
  void perform(const SendFreed& a) { CENOTE_CHECK(live_.contains(a.session)); }
  void perform(const Announce& a) { CENOTE_CHECK(live_.contains(a.session)); }
  void perform(const SendBeat& a) { CENOTE_CHECK(a.session < next_session_); }  // After a stall also to one that is gone.
  void perform(const SendStuck& a) { CENOTE_CHECK(live_.contains(a.session)); }
  void perform(const Noticed&) {}
  void perform(const OpenRevision& a) {
    CENOTE_CHECK(!open_.contains(a.revision) && !closing_.contains(a.revision));
    if (opening_.insert(a.revision).second) asked_.push_back(RevisionOpened{.revision = a.revision});
  }
  void perform(const CloseRevision& a) {
    CENOTE_CHECK(open_.erase(a.revision) == 1);
    CENOTE_CHECK((!warming_ && runs_ == 0) || a.revision != computed_);
    closing_.insert(a.revision);
    asked_.push_back(RevisionClosed{a.revision});
  }
  void perform(const RunModel& a) {
    CENOTE_CHECK(a.request != nullptr);
    // Behind what runs: more of the same.
    CENOTE_CHECK(open_.contains(a.revision) && !warming_ && (runs_ == 0 || a.revision == computed_) && runs_ < Executor::kAheadMax);
    ++runs_;
    computed_ = a.revision;
    asked_.push_back(RunEnded{.id = a.id});
  }
  void perform(const WarmUp& a) {
    CENOTE_CHECK(open_.contains(a.revision) && !warming_ && runs_ == 0);
    warming_ = true;
    computed_ = a.revision;
    asked_.push_back(WarmUpEnded{.revision = a.revision});
  }

  Executor machine_;
  std::array<SessionId, 4> sessions_{};
  SessionId next_session_ = 1;
  std::set<SessionId> live_;
  std::deque<Event> asked_;
  std::set<Digest> opening_, open_, closing_;
  size_t runs_ = 0;       // Under way, all of `computed_`.
  bool warming_ = false;
  Digest computed_;
};

}  // namespace
}  // namespace cenote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cenote::World world;
  return cenote::fuzz::play({data, size}, world);
}
