#include "simulate/router_node.h"

#include <algorithm>

#include "base/status.h"
#include "catalog/names.h"
#include "simulate/executor_node.h"

namespace cenote::simulate {
namespace {

constexpr Duration kHeartbeat = Duration::from_ms(400);
constexpr Duration kDrainTimeout = Duration::from_seconds(3);

// What `model` means under a view; empty: nothing, or more than one thing.
std::optional<Digest> meaning(const ClusterView& view, const std::string& model) {
  const auto ref = parse_model_ref(model);
  if (!ref.ok()) return std::nullopt;
  std::optional<Digest> found;
  if (ref->digest_prefix.empty()) {
    for (const TagView& tag : view.tags) {
      if (tag.name == ref->name && tag.tag == ref->tag) found = tag.revision;
    }
    return found;
  }
  for (const auto& [revision, name] : view.revision_names) {
    if (name != ref->name || revision.hex().compare(0, ref->digest_prefix.size(), ref->digest_prefix) != 0) continue;
    if (found) return std::nullopt;
    found = revision;
  }
  return found;
}

}  // namespace

RouterNode::RouterNode(Network& network, PlaceId place, Incarnation incarnation, const node::RouterOptions& options, PlaceId controller)
    : Process(network, place, incarnation), options_(options), machine_(options),
      link_(*this, controller, {.connected = [this] { next_report_ = world().now(); }, .directive = [this](Directive directive) { obey(std::move(directive)); }}) {}

// The loop of bin/role_router.cc.
void RouterNode::run(Instant now) {
  if (drain_asked_ && drain_end_ == Instant::infinite_future()) {
    drain_end_ = now + kDrainTimeout;
    draining_ = true;
    inputs_.emplace_back(node::router::DrainBegan{});
    next_report_ = now;
  }
  std::vector<node::router::Event> events = std::exchange(inputs_, {});
  std::vector<node::router::Action> actions;
  const bool early = events.empty() && now < machine_.next_deadline();
  machine_.step(now, events, actions);
  if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the deadline it named"));
  for (node::router::Action& action : actions) {
    world().note(action.index());
    std::visit([this](auto& a) { perform(a); }, action);
  }
  for (const SessionId closed : std::exchange(closed_, {})) welcomed_.erase(closed);
  const node::RouterCounts counts = machine_.counts();
  if (counts.outstanding > options_.outstanding_max || counts.queued > options_.queue_max + options_.outstanding_max) {
    world().fail(str_cat(name(), " has ", counts.queued, " requests queued and ", counts.outstanding, " outstanding, over its bounds"));
  }
  if (now >= next_report_) {
    report();
    next_report_ = now + kHeartbeat;
  }
  if (machine_.drained() || now >= drain_end_) network().exit(*this, "drained");
}

void RouterNode::report() {
  const node::RouterCounts counts = machine_.counts();
  link_.report({.name = name(), .role = Role::kRouter, .incarnation = incarnation(), .address = name(), .draining = draining_,
                .outstanding = counts.outstanding, .queued = counts.queued, .routed = counts.routed, .refused = counts.refused, .retried = counts.retried});
}

void RouterNode::obey(Directive directive) {
  if (auto* view = std::get_if<ClusterView>(&directive)) {
    view_ = *view;
    for (auto& [id, request] : admitted_) note_view(request);
    inputs_.emplace_back(node::router::ViewChanged{std::move(*view)});
  } else if (std::holds_alternative<DrainMember>(directive)) {
    drain_asked_ = true;
  }
}

// ---- callers ---------------------------------------------------------------------------------------------------------------
void RouterNode::take(const std::shared_ptr<SessionWire>& wire) {
  const SessionId number = next_session_++;
  sessions_[number] = wire;
  wire->to_taker = [this, number](InferUp up) { arrived(number, std::move(up)); };
  wire->link->end(1).closed = [this, number](const absl::Status&) {
    sessions_.erase(number);
    closed_.push_back(number);
    inputs_.emplace_back(node::router::SessionClosed{number});
  };
  inputs_.emplace_back(node::router::SessionOpened{number});
}

void RouterNode::arrived(SessionId session, InferUp up) {
  if (auto* request = std::get_if<InferRequest>(&up)) {
    Admitted& admitted = admitted_[request->id];
    admitted.model = request->model;
    ++admitted.copies;
    note_view(admitted);
    inputs_.emplace_back(node::router::RequestArrived{session, std::make_shared<const InferRequest>(std::move(*request))});
  } else if (const auto* cancel = std::get_if<CancelInfer>(&up)) {
    inputs_.emplace_back(node::router::CancelArrived{session, cancel->id});
  }
}

void RouterNode::note_view(Admitted& request) const {
  const std::optional<Digest> meant = view_ ? meaning(*view_, request.model) : std::nullopt;
  if (meant) {
    request.meant.insert(*meant);
  } else {
    request.always = false;
  }
}

void RouterNode::send(SessionId session, InferDown down, uint64_t bytes) {
  if (const auto found = sessions_.find(session); found != sessions_.end()) found->second->down(std::move(down), bytes);
}

void RouterNode::perform(node::router::SendReply& action) {
  // One that was sent again over a new session is answered there and, if its first one is not gone yet, here.
  const auto known = admitted_.find(action.reply.id);
  const auto admitted = known != admitted_.end() && --known->second.copies == 0 ? admitted_.extract(known) : decltype(admitted_)::node_type{};
  // An executor's own "not found" comes with its name, and is looked at where it arrives (Truth).
  if (absl::IsNotFound(action.reply.status) && action.reply.executor.empty() && !admitted.empty() && admitted.mapped().always) {
    const bool moved = admitted.mapped().meant.size() > 1;  // What it meant first may be removed.
    if (!moved) world().fail(str_cat(name(), " does not find '", admitted.mapped().model, "', which its views had all the time: ", to_std(action.reply.status.message())));
  }
  send(action.session, std::move(action.reply), 512);
}

void RouterNode::perform(node::router::Announce& action) {
  if (!sessions_.contains(action.session)) return;
  if (welcomed_.insert(action.session).second) {
    send(action.session, Welcome{incarnation(), action.credits, action.draining, beat_interval(kSilenceMax)});
  } else {
    send(action.session, CreditsChanged{action.credits, action.draining});
  }
}

// ---- executors -------------------------------------------------------------------------------------------------------------
void RouterNode::perform(node::router::OpenLink& action) {
  const LinkId number = action.link;
  auto wire = network().connect<SessionWire>(
      *this, network().find(action.address), [](Process& taker, const std::shared_ptr<SessionWire>& taken) { static_cast<ExecutorNode&>(taker).take(taken); },
      [this, number](const absl::Status& why) {
        links_.erase(number);
        inputs_.emplace_back(node::router::LinkLost{number, why});
      });
  wire->to_opener = [this, number](InferDown down) { from_executor(number, std::move(down)); };
  links_[number] = Peer{.wire = wire, .executor = action.executor};
}

void RouterNode::perform(node::router::CloseLink& action) {
  const auto link = links_.extract(action.link);
  if (!link.empty()) link.mapped().wire->link->close(0, absl::OkStatus());
}

void RouterNode::check_target(const RequestId& id, const Digest& revision, LinkId link) {
  const auto admitted = admitted_.find(id);
  if (admitted == admitted_.end() || !admitted->second.meant.contains(revision)) {
    world().fail(str_cat(name(), " sends request ", id.low, " to revision ", revision.short_hex(), ", which its name never meant here"));
  }
  Peer& peer = links_.at(link);
  world().say(name(), ": request ", id.low, " to ", peer.executor, ", revision ", revision.short_hex());
  if (!peer.outstanding.insert(id).second) world().fail(str_cat(name(), " sends request ", id.low, " twice to ", peer.executor, " at once"));
  if (peer.outstanding.size() > peer.credits) world().fail(str_cat(name(), " has ", peer.outstanding.size(), " requests at ", peer.executor, ", its credits are ", peer.credits));
}

void RouterNode::perform(node::router::SendRequest& action) {
  const auto link = links_.find(action.link);
  if (link == links_.end()) return;
  check_target(action.request->id, action.revision, action.link);
  InferRequest request = *action.request;
  request.revision = action.revision;
  request.budget = action.budget;
  request.by_ticket = false;
  const uint64_t bytes = 256 + request.payload_bytes;
  link->second.wire->up(std::move(request), bytes);
}

void RouterNode::perform(node::router::SendReserve& action) {
  const auto link = links_.find(action.link);
  if (link == links_.end()) return;
  check_target(action.id, action.revision, action.link);
  link->second.wire->up(ReserveSlot{action.id, action.revision, action.expires_in});
}

void RouterNode::perform(node::router::SendCancel& action) {
  if (const auto link = links_.find(action.link); link != links_.end()) link->second.wire->up(CancelInfer{action.id});
}

void RouterNode::from_executor(LinkId link, InferDown down) {
  const auto peer = links_.find(link);
  if (peer == links_.end()) return;
  if (const auto* welcome = std::get_if<Welcome>(&down)) {
    peer->second.credits = welcome->credits;
    inputs_.emplace_back(node::router::LinkUp{link, welcome->incarnation, welcome->credits, welcome->draining, welcome->beat});
  } else if (const auto* credits = std::get_if<CreditsChanged>(&down)) {
    peer->second.credits = credits->credits;
    inputs_.emplace_back(node::router::LinkCredits{link, credits->credits, credits->draining});
  } else if (auto* reply = std::get_if<InferReply>(&down)) {
    if (world().tracing()) world().say(name(), ": request ", reply->id.low, " back from ", peer->second.executor, ": ", reply->status.ToString());
    peer->second.outstanding.erase(reply->id);
    inputs_.emplace_back(node::router::ReplyArrived{link, std::move(*reply)});
  } else if (const auto* freed = std::get_if<SlotReleased>(&down)) {
    peer->second.outstanding.erase(freed->id);
    inputs_.emplace_back(node::router::SlotFreed{link, freed->id, freed->status});
  } else if (const auto* beat = std::get_if<PeerBeat>(&down)) {
    inputs_.emplace_back(node::router::LinkBeat{link, beat->next});
  } else if (const auto* stuck = std::get_if<RequestStuck>(&down)) {
    inputs_.emplace_back(node::router::LinkStuck{link, stuck->id});
  }
}

}  // namespace cenote::simulate
