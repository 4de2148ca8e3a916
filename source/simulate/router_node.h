// simulate/router_node.h - node/router.h in a place of the simulator: callers' sessions, links to executors. What it answers and where it
// sends is held against the views it was given.
#pragma once

#include <optional>
#include <set>

#include "node/router.h"
#include "simulate/session.h"
#include "simulate/truth.h"
#include "simulate/uplink.h"

namespace cenote::simulate {

class RouterNode final : public Process {
 public:
  RouterNode(Network& network, PlaceId place, Incarnation incarnation, const node::RouterOptions& options, PlaceId controller);

  void start() override { link_.open(); }
  void run(Instant now) override;
  Instant due() const override { return std::min({next_report_, machine_.next_deadline(), drain_end_}); }

  void take(const std::shared_ptr<SessionWire>& wire);
  const node::Router& machine() const { return machine_; }

 private:
  using SessionId = node::router::SessionId;
  using LinkId = node::router::LinkId;
  struct Peer {
    std::shared_ptr<SessionWire> wire;
    std::string executor;
    uint32_t credits = 0;
    std::set<RequestId> outstanding;   // Sent, not answered.
  };
  // What a request may be sent to: what its name meant under a view since it came.
  struct Admitted {
    std::string model;
    uint32_t copies = 0;               // That are to be answered here.
    std::set<Digest> meant;
    bool always = true;                // Every view since then knew it.
  };

  void arrived(SessionId session, InferUp up);
  void from_executor(LinkId link, InferDown down);
  void obey(Directive directive);
  void report();
  void note_view(Admitted& request) const;
  void check_target(const RequestId& id, const Digest& revision, LinkId link);

  void perform(node::router::OpenLink& action);
  void perform(node::router::CloseLink& action);
  void perform(node::router::SendRequest& action);
  void perform(node::router::SendReserve& action);
  void perform(node::router::SendCancel& action);
  void perform(node::router::SendReply& action);
  void perform(node::router::SendTicket& action) { send(action.session, std::move(action.ticket)); }
  void perform(node::router::Announce& action);
  void perform(node::router::SendBeat& action) { send(action.session, PeerBeat{action.next}, 64); }
  void perform(node::router::Noticed& action) { world().say(name(), ": ", action.executor, action.silent ? " is silent" : " speaks again"); }
  void send(SessionId session, InferDown down, uint64_t bytes = 256);

  const node::RouterOptions options_;
  node::Router machine_;
  Uplink link_;
  std::vector<node::router::Event> inputs_;
  std::map<SessionId, std::shared_ptr<SessionWire>> sessions_;
  SessionId next_session_ = 1;
  std::map<LinkId, Peer> links_;
  std::set<SessionId> welcomed_;
  std::vector<SessionId> closed_;
  std::optional<ClusterView> view_;
  std::map<RequestId, Admitted> admitted_;
  Instant next_report_;
  Instant drain_end_ = Instant::infinite_future();
  bool drain_asked_ = false;
  bool draining_ = false;
};

}  // namespace cenote::simulate
