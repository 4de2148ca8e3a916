#include "simulate/executor_node.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::simulate {
namespace {

constexpr Duration kHeartbeat = Duration::from_ms(400);
constexpr Duration kDrainTimeout = Duration::from_seconds(3);

}  // namespace

ExecutorNode::ExecutorNode(Network& network, PlaceId place, Incarnation incarnation, int64_t pid, const DeviceShape& shape, PlaceId agent,
                           std::shared_ptr<HostCache> cache, const Truth& truth)
    : Process(network, place, incarnation), pid_(pid), shape_(shape), agent_(agent), cache_(std::move(cache)), truth_(truth),
      machine_({.name = name(), .credits = shape.credits, .queue_max = shape.queue_max}) {}

// A moment after exec: it opens its devices, then its port, then calls its agent.
void ExecutorNode::start() {
  next_report_ = Instant::infinite_future();
  network().later(*this, world().draw(Duration::from_ms(5), Duration::from_ms(80)), [this] {
    attach_ = network().connect<AttachWire>(
        *this, agent_, [](Process& taker, const std::shared_ptr<AttachWire>& wire) { static_cast<AgentNode&>(taker).take(wire); },
        [this](const absl::Status&) { agent_gone_ = true; });
    attach_->to_opener = [this](ExecutorDown message) { from_agent(std::move(message)); };
    cache_->readers[place()] = [this] { network().deliver(place(), incarnation(), [] {}); };
    report();
    next_report_ = world().now() + kHeartbeat;
    next_beat_ = world().now();
  });
}

Instant ExecutorNode::due() const { return std::min({next_report_, next_beat_, machine_.next_deadline(), drain_end_}); }

// The loop of bin/role_executor.cc.
void ExecutorNode::run(Instant now) {
  if (attach_ == nullptr) return;
  if (agent_gone_) return network().exit(*this, "the agent is gone");
  if (now >= next_beat_) {
    attach_->up(AttachBeat{beat_interval(kSilenceMax)});
    next_beat_ = now + beat_interval(kSilenceMax);
  }
  if (drain_asked_ && drain_end_ == Instant::infinite_future()) {
    drain_end_ = now + kDrainTimeout;
    inputs_.emplace_back(node::executor::DrainBegan{});
  }
  look_at_weights();
  go_on();
  std::vector<node::executor::Event> events = std::exchange(inputs_, {});
  std::vector<node::executor::Action> actions;
  const bool early = events.empty() && now < machine_.next_deadline();
  machine_.step(now, events, actions);
  if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the deadline it named"));
  for (node::executor::Action& action : actions) {
    world().note(action.index());
    std::visit([this](auto& a) { perform(a); }, action);
  }
  if (machine_.take_readiness_changed() || now >= next_report_) {
    report();
    next_report_ = now + kHeartbeat;
  }
  if (!inputs_.empty()) network().wake(place());
  if (machine_.drained() || now >= drain_end_) network().exit(*this, "exit 0");
}

void ExecutorNode::report() {
  ExecutorReport report{.name = name(), .device = shape_.name, .address = name(), .incarnation = incarnation(), .pid = pid_};
  machine_.fill_report(report);
  attach_->up(std::move(report));
}

// ---- sessions --------------------------------------------------------------------------------------------------------------
void ExecutorNode::take(const std::shared_ptr<SessionWire>& wire) {
  const SessionId number = next_session_++;
  sessions_[number] = wire;
  wire->to_taker = [this, number](InferUp up) { arrived(number, std::move(up)); };
  wire->link->end(1).closed = [this, number](const absl::Status&) {
    sessions_.erase(number);
    welcomed_.erase(number);
    inputs_.emplace_back(node::executor::SessionClosed{number});
  };
  inputs_.emplace_back(node::executor::SessionOpened{number});
}

void ExecutorNode::arrived(SessionId session, InferUp up) {
  if (auto* request = std::get_if<InferRequest>(&up)) {
    inputs_.emplace_back(node::executor::RequestArrived{session, std::make_shared<InferRequest>(std::move(*request))});
  } else if (const auto* cancel = std::get_if<CancelInfer>(&up)) {
    inputs_.emplace_back(node::executor::CancelArrived{session, cancel->id});
  } else if (const auto* reserve = std::get_if<ReserveSlot>(&up)) {
    inputs_.emplace_back(node::executor::ReserveArrived{session, reserve->id, reserve->revision, reserve->expires_in});
  }
}

void ExecutorNode::send(SessionId session, InferDown down, uint64_t bytes) {
  if (const auto found = sessions_.find(session); found != sessions_.end()) found->second->down(std::move(down), bytes);
}

void ExecutorNode::perform(node::executor::SendReply& action) {
  uint64_t bytes = 256;
  for (const Tensor& output : action.reply.outputs) bytes += output.bytes.size();
  if (action.reply.status.ok() && bytes <= node::Executor::kRememberedBytesMax) answered_.try_emplace(action.reply.id, world().now());
  send(action.session, std::move(action.reply), bytes);
}
void ExecutorNode::perform(node::executor::SendFreed& action) { send(action.session, SlotReleased{action.id, std::move(action.status)}); }
void ExecutorNode::perform(node::executor::Announce& action) {
  if (!sessions_.contains(action.session)) return;
  if (welcomed_.insert(action.session).second) {
    send(action.session, Welcome{incarnation(), action.credits, action.draining, beat_interval(kSilenceMax)});
  } else {
    send(action.session, CreditsChanged{action.credits, action.draining});
  }
}

// ---- the agent -------------------------------------------------------------------------------------------------------------
void ExecutorNode::from_agent(ExecutorDown message) {
  std::visit([this](auto& m) { take_from_agent(m); }, message);
}

void ExecutorNode::take_from_agent(const Attached&) {
  attached_ = true;
  for (const auto& [revision, urgent] : acquires_.wanted()) acquire(revision, urgent);
}

void ExecutorNode::acquire(const Digest& revision, bool urgent) {
  const uint64_t ticket = acquires_.ask(revision);
  if (ticket != 0) attach_->up(Acquire{.ticket = ticket, .revision = revision, .urgent = urgent});
}

void ExecutorNode::take_from_agent(Acquired& acquired) {
  Digest revision;
  switch (acquires_.answered(acquired.ticket, acquired.status.ok(), revision)) {
    case Acquires::Answer::kIgnore: return;
    case Acquires::Answer::kRelease: attach_->up(ReleaseRevision{revision}); return;
    case Acquires::Answer::kPrepare: prepare(revision, acquired); return;
    case Acquires::Answer::kRefused: break;
  }
  world().say(name(), ": cannot open ", revision.short_hex(), ": ", to_std(acquired.status.message()));
  inputs_.emplace_back(node::executor::RevisionOpened{revision, acquired.status, false});
}

void ExecutorNode::take_from_agent(const FetchDone& done) {
  if (const auto held = held_.find(done.revision); held != held_.end()) {
    held->second.status = done.status;
    held->second.fetched = done.status.ok();
  } else if (acquires_.wants(done.revision)) {
    fetched_early_.insert_or_assign(done.revision, done);
  }
}

void ExecutorNode::perform(const node::executor::OpenRevision& action) {
  world().say(name(), ": opens ", action.revision.short_hex(), action.urgent ? ", urgent" : "");
  acquires_.want(action.revision, action.urgent);
  if (attached_) acquire(action.revision, action.urgent);
}

void ExecutorNode::perform(const node::executor::CloseRevision& action) {
  world().say(name(), ": closes ", action.revision.short_hex());
  const auto held = held_.extract(action.revision);
  if (held.empty()) return world().fail(str_cat(name(), " closes a revision that it does not hold"));
  if (held.mapped().released) released_.insert(action.revision);
  network().later(*this, world().draw(Duration::from_us(50), Duration::from_ms(3)), [this, revision = action.revision] {
    device_bytes_.erase(revision);
    acquires_.given_back(revision);
    if (released_.erase(revision) == 0) attach_->up(ReleaseRevision{revision});
    inputs_.emplace_back(node::executor::RevisionClosed{revision});
  });
}

std::set<Digest> ExecutorNode::mapped() const {
  std::set<Digest> revisions;
  for (const auto& [revision, held] : held_) {
    if (!held.released) revisions.insert(revision);
  }
  return revisions;
}

}  // namespace cenote::simulate
