// Goal: whatever callers ask and executors answer, a router answers each request of a session that lives, stays within its bounds, sends no
// executor more than its credits, and drains.
// Input: fuzz::Script; links come up and fail when a record says so.
#include <array>
#include <map>
#include <set>

#include "node/router.h"
#include "script.h"

namespace cenote {
namespace {

using namespace node;
using namespace node::router;
using fuzz::Record;

class World final : fuzz::Surroundings<Event> {
 public:
  World() : machine_(options()) {}

  void play(const Record& record) {
    SessionId& session = sessions_[record.who % sessions_.size()];
    if (session == 0) {
      session = next_session_++;
      waiting_[session];
      feed(SessionOpened{session});
    }
    switch (record.kind % 7) {
      case 0:
      case 1: said(record, session); break;
      case 2:
        waiting_.erase(session);
        feed(SessionClosed{std::exchange(session, 0)});
        break;
      case 3: view(record); break;
      case 4:
      case 5: answered(record); break;
      case 6: pass(Duration::from_ms(static_cast<int64_t>(record.number() % 1'000))); break;
    }
  }
  void end() {
    feed(DrainBegan{});
    for (int i = 0; i < 400 && !machine_.drained(); ++i) pass(Duration::from_ms(1'000));
    CENOTE_CHECK(machine_.drained());
    for (const auto& [session, requests] : waiting_) CENOTE_CHECK(requests.empty());
  }

 private:
  static RouterOptions options() { return {.name = "router-0", .queue_max = 8, .outstanding_max = 6, .deadline = Duration::from_ms(5'000)}; }

  void said(const Record& record, SessionId session) {
    auto up = fuzz::message<v1::InferenceUp>(record);
    if (!up) return;
    if (auto* request = std::get_if<InferRequest>(&*up)) {
      fuzz::fold(request->id);
      request->budget = std::min(request->budget, Duration::from_ms(60'000));
      for (auto& [other, requests] : waiting_) requests.erase(request->id);  // Whoever asked for it last has the answer.
      waiting_[session].insert(request->id);
      feed(RequestArrived{session, std::make_shared<const InferRequest>(std::move(*request))});
    } else if (auto* cancel = std::get_if<wire::CancelInfer>(&*up)) {
      fuzz::fold(cancel->id);
      feed(CancelArrived{session, cancel->id});
      // Who cancels waits for no answer; one may be on its way.
      if (const auto found = waiting_.find(session); found != waiting_.end()) found->second.erase(cancel->id);
    }
  }
  void view(const Record& record) {
    auto directive = fuzz::message<v1::Directive>(record);
    auto* view = directive ? std::get_if<ClusterView>(&*directive) : nullptr;
    if (view != nullptr) feed(ViewChanged{std::move(*view)});
  }
  // Something that an executor says, or the end of its link.
  void answered(const Record& record) {
    if (links_.empty()) return;
    auto at = links_.begin();
    std::advance(at, record.who % links_.size());
    const LinkId link = *at;
    auto down = fuzz::message<v1::InferenceDown>(record);
    if (!down) {
      links_.erase(at);
      return feed(LinkLost{link, absl::UnavailableError("broken")});
    }
    std::visit([&](auto& message) { heard(link, message); }, *down);
  }
  void heard(LinkId link, const wire::Welcome& w) { feed(LinkUp{link, w.incarnation, w.credits % 4, w.draining, w.beat}); }
  void heard(LinkId link, InferReply& reply) {
    fuzz::fold(reply.id);
    feed(ReplyArrived{link, std::move(reply)});
  }
  void heard(LinkId, const Ticket&) {}
  void heard(LinkId link, wire::SlotReleased& freed) {
    fuzz::fold(freed.id);
    feed(SlotFreed{link, freed.id, freed.status});
  }
  void heard(LinkId link, const wire::CreditsChanged& c) { feed(LinkCredits{link, c.credits % 4, c.draining}); }
  void heard(LinkId link, const wire::PeerBeat& beat) { feed(LinkBeat{link, beat.next}); }
  void heard(LinkId link, wire::RequestStuck& stuck) {
    fuzz::fold(stuck.id);
    feed(LinkStuck{link, stuck.id});
  }

  void step(std::vector<Event> events) override {
    std::vector<Action> actions;
    machine_.step(now_, events, actions);
    for (const Action& action : actions) std::visit([&](const auto& a) { perform(a); }, action);
    const RouterCounts counts = machine_.counts();
    CENOTE_CHECK(counts.outstanding <= options().outstanding_max && counts.queued <= options().queue_max + options().outstanding_max);
  }

  void perform(const OpenLink& a) { CENOTE_CHECK(links_.insert(a.link).second && !a.address.empty()); }
  void perform(const CloseLink& a) { links_.erase(a.link); }
  void perform(const SendRequest& a) { CENOTE_CHECK(links_.contains(a.link) && a.request != nullptr && !a.revision.empty()); }
  void perform(const SendReserve& a) { CENOTE_CHECK(links_.contains(a.link) && !a.revision.empty()); }
  void perform(const SendCancel& a) { CENOTE_CHECK(links_.contains(a.link)); }
  void perform(const SendReply& a) {
    CENOTE_CHECK(waiting_.contains(a.session));
    waiting_.at(a.session).erase(a.reply.id);
  }
  void perform(const SendTicket& a) {
    CENOTE_CHECK(waiting_.contains(a.session));
    waiting_.at(a.session).erase(a.ticket.id);
  }
  void perform(const Announce& a) { CENOTE_CHECK(waiting_.contains(a.session)); }
  void perform(const SendBeat& a) { CENOTE_CHECK(a.session < next_session_); }  // After a stall also to one that is gone.
  void perform(const Noticed&) {}

  Router machine_;
  std::array<SessionId, 4> sessions_{};
  SessionId next_session_ = 1;
  std::map<SessionId, std::set<RequestId>> waiting_;  // Live sessions and what they have not heard of yet.
  std::set<LinkId> links_;
};

}  // namespace
}  // namespace cenote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cenote::World world;
  return cenote::fuzz::play({data, size}, world);
}
