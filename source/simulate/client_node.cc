#include "simulate/client_node.h"

#include <algorithm>

#include "base/status.h"
#include "simulate/executor_node.h"
#include "simulate/router_node.h"

namespace cenote::simulate {

ClientNode::ClientNode(Network& network, PlaceId place, Incarnation incarnation, std::vector<PlaceId> routers, Truth& truth)
    : Process(network, place, incarnation), truth_(truth), keeper_(routers.size()) {
  for (const PlaceId router : routers) routers_.push_back({.place = router});
}

void ClientNode::start() {
  for (size_t i = 0; i < routers_.size(); ++i) open_router(i);
}

void ClientNode::run(Instant now) {
  const std::vector<node::ClientEvent> events = std::exchange(inputs_, {});
  std::vector<node::ClientAction> actions;
  const bool early = events.empty() && now < keeper_.next_deadline();
  keeper_.step(now, events, actions);
  if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the deadline it named"));
  for (node::ClientAction& action : actions) {
    world().note(action.index());
    std::visit([this](auto& a) { perform(a); }, action);
  }
}

void ClientNode::submit(const std::string& model, uint64_t payload_bytes, Duration timeout, Kind kind) {
  const RequestId id{place(), world().draw(1ull << 40) << 20 | truth_.requests().size()};
  const Instant deadline = world().now() + timeout;
  truth_.asked(id, {.model = model, .submitted = world().now(), .deadline = deadline, .must_succeed = kind == Kind::kMustSucceed, .patient = kind == Kind::kPatient});
  world().say(name(), ": request ", id.low, " for ", model, ", ", payload_bytes, " bytes, ", timeout.ms(), " ms");
  InferRequest request{.id = id, .model = model, .payload_bytes = payload_bytes};
  pending_[id].request = std::move(request);
  network().deliver(place(), incarnation(), [this, submit = node::ClientSubmit{id, deadline, payload_bytes, reply_sizes_[model]}] { inputs_.emplace_back(submit); });
}

void ClientNode::cancel_one(uint64_t n) {
  if (pending_.empty()) return;
  const RequestId id = std::next(pending_.begin(), static_cast<ptrdiff_t>(n % pending_.size()))->first;
  truth_.cancelled(id);
  network().deliver(place(), incarnation(), [this, id] { inputs_.emplace_back(node::ClientCancel{id}); });
}

// ---- sessions --------------------------------------------------------------------------------------------------------------
void ClientNode::open_router(size_t index) {
  Router& router = routers_[index];
  router.wire = network().connect<SessionWire>(
      *this, router.place, [](Process& taker, const std::shared_ptr<SessionWire>& wire) { static_cast<RouterNode&>(taker).take(wire); },
      [this, index](const absl::Status& why) {
        Router& lost = routers_[index];
        lost.wire.reset();
        inputs_.emplace_back(node::RouterDown{index, why});
        network().later(*this, lost.backoff, [this, index] { open_router(index); });
        lost.backoff = std::min(lost.backoff * 2, Duration::from_ms(1'000));
      });
  router.wire->to_opener = [this, index](InferDown message) { router_said(index, std::move(message)); };
}

void ClientNode::router_said(size_t index, InferDown message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    routers_[index].backoff = Duration::from_ms(50);
    inputs_.emplace_back(node::RouterUp{index, welcome->draining ? 0 : welcome->credits, welcome->beat});
  } else if (const auto* credits = std::get_if<CreditsChanged>(&message)) {
    inputs_.emplace_back(node::RouterCredits{index, credits->draining ? 0 : credits->credits});
  } else if (auto* ticket = std::get_if<Ticket>(&message)) {
    inputs_.emplace_back(node::TicketCame{index, std::move(*ticket)});
  } else if (auto* reply = std::get_if<InferReply>(&message)) {
    replied(std::move(*reply), index, "");
  } else if (const auto* beat = std::get_if<PeerBeat>(&message)) {
    inputs_.emplace_back(node::RouterBeat{index, beat->next});
  }
}

void ClientNode::open_executor(const std::string& address) {
  if (executors_.contains(address)) return;
  auto wire = network().connect<SessionWire>(
      *this, network().find(address), [](Process& taker, const std::shared_ptr<SessionWire>& taken) { static_cast<ExecutorNode&>(taker).take(taken); },
      [this, address](const absl::Status& why) {
        executors_.erase(address);
        inputs_.emplace_back(node::ExecutorDown{address, why});
      });
  wire->to_opener = [this, address](InferDown message) { executor_said(address, std::move(message)); };
  executors_[address] = wire;
}

void ClientNode::executor_said(const std::string& address, InferDown message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    inputs_.emplace_back(node::ExecutorUp{address, welcome->incarnation, welcome->beat});
  } else if (auto* reply = std::get_if<InferReply>(&message)) {
    replied(std::move(*reply), SIZE_MAX, address);
  } else if (const auto* beat = std::get_if<PeerBeat>(&message)) {
    inputs_.emplace_back(node::ExecutorBeat{address, beat->next});
  }
}

void ClientNode::replied(InferReply reply, size_t router, const std::string& executor) {
  const auto pending = pending_.find(reply.id);
  inputs_.emplace_back(node::ReplyCame{reply.id, reply.status, router, executor});
  if (pending == pending_.end()) return;
  uint64_t bytes = 0;
  for (const Tensor& output : reply.outputs) bytes += output.bytes.size();
  if (reply.status.ok()) reply_sizes_[pending->second.request.model] = bytes;
  pending->second.reply = std::move(reply);
}

// ---- actions ---------------------------------------------------------------------------------------------------------------
void ClientNode::perform(node::SendToRouter& action) {
  Router& router = routers_[action.router];
  if (router.wire == nullptr) return;  // Its Down event sends the request elsewhere.
  InferRequest request = pending_.at(action.id).request;
  request.budget = action.budget;
  request.by_ticket = action.header_only;
  const uint64_t bytes = 256 + (action.header_only ? 0 : request.payload_bytes);
  router.wire->up(std::move(request), bytes);
}

void ClientNode::perform(node::SendToExecutor& action) {
  const auto executor = executors_.find(action.address);
  if (executor == executors_.end()) return;
  InferRequest request = pending_.at(action.id).request;
  request.budget = action.budget;
  request.revision = action.revision;
  request.by_ticket = true;
  const uint64_t bytes = 256 + request.payload_bytes;
  executor->second->up(std::move(request), bytes);
}

void ClientNode::perform(node::CancelAtRouter& action) {
  if (const auto& wire = routers_[action.router].wire; wire != nullptr) wire->up(CancelInfer{action.id});
}

void ClientNode::perform(node::ClientDone& action) {
  const auto pending = pending_.extract(action.id);
  if (pending.empty()) return world().fail("a client ends a request that it does not have");
  const auto& reply = pending.mapped().reply;
  truth_.answered(action.id, action.status, action.replied && reply ? &*reply : nullptr);
}

}  // namespace cenote::simulate
