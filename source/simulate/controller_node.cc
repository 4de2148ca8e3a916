#include "simulate/controller_node.h"

#include "base/status.h"
#include "simulate/uplink.h"

namespace cenote::simulate {
namespace {

constexpr size_t kReadBatch = 1024;

// As bin/role_controller.cc reads it at a start.
absl::StatusOr<Catalogue> read_catalogue(EventStore& store) {
  Catalogue catalogue;
  for (uint64_t from = store.first(); from <= store.last();) {
    CENOTE_ASSIGN_OR_RETURN(const std::vector<StoredEvent> events, store.read(from, kReadBatch));
    if (events.empty()) break;
    for (const StoredEvent& stored : events) CENOTE_RETURN_IF_ERROR(catalogue.apply(stored.event));
    from = events.back().sequence + 1;
  }
  return catalogue;
}

}  // namespace

// ---- wire/controller_link.h ------------------------------------------------------------------------------------------------
void Uplink::open() {
  answered_ = false;
  wire_ = member_.network().connect<JoinWire>(
      member_, controller_, [](Process& taker, const std::shared_ptr<JoinWire>& wire) { static_cast<ControllerNode&>(taker).take(wire); },
      [this](const absl::Status& why) {
        member_.world().say(member_.name(), ": controller: ", to_std(why.message()));
        wire_.reset();
        pause_ = answered_ ? Duration::from_ms(50) : std::min(pause_ * 2, Duration::from_ms(1'000));
        answered_ = false;
        if (!ending_) member_.network().later(member_, pause_, [this] { open(); });
      });
  wire_->to_opener = [this](Directive directive) {
    answered_ = true;
    events_.directive(std::move(directive));
  };
  events_.connected();
}

// ---- the role --------------------------------------------------------------------------------------------------------------
ControllerNode::ControllerNode(Network& network, PlaceId place, Incarnation incarnation, const node::ControllerOptions& options, Truth& truth)
    : Process(network, place, incarnation), truth_(truth) {
  absl::StatusOr<Catalogue> catalogue = read_catalogue(*truth.disk.store);
  if (!catalogue.ok()) {
    world().fail(str_cat("the store cannot be read: ", to_std(catalogue.status().message())));
    catalogue = Catalogue();
  }
  truth_.check_catalogue(*catalogue, "at its start");
  node::ControllerOptions own = options;
  own.first_version = 1'000'000 + static_cast<uint64_t>(world().now().ns / 1'000);
  own.events_stored = truth_.disk.store->last();
  own.fresh_lineage = world().draw_incarnation();
  machine_ = std::make_unique<node::Controller>(std::move(own), *std::move(catalogue), world().now());
}

void ControllerNode::take(const std::shared_ptr<JoinWire>& wire) {
  const node::StreamId number = next_stream_++;
  streams_[number] = wire;
  wire->to_taker = [this, number](MemberReport report) { inputs_.emplace_back(node::Reported{number, std::move(report)}); };
  wire->link->end(1).closed = [this, number](const absl::Status&) {
    streams_.erase(number);
    inputs_.emplace_back(node::StreamEnded{number});
  };
}

void ControllerNode::run(Instant now) {
  std::vector<node::ControllerEvent> events = std::exchange(inputs_, {});
  std::vector<node::ControllerAction> actions;
  const bool early = events.empty() && now < machine_->next_deadline();
  machine_->step(now, events, actions);
  if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the deadline it named"));
  for (node::ControllerAction& action : actions) {
    world().note(action.index());
    std::visit([this](auto& a) { perform(a); }, action);
  }
}

// fsync had returned for what is durable; what was being written when it died may be there or not.
void ControllerNode::killed() {
  if (!appending_.empty() && world().chance(50)) {
    if (truth_.disk.store->append(appending_).ok()) truth_.appended(appending_);
  }
}

void ControllerNode::perform(node::AppendEvents& action) {
  if (!appending_.empty()) world().fail("the controller appends while an append is under way");
  for (const CatalogueEvent& event : action.events) world().say(name(), ": appends ", describe_event(event));
  appending_ = std::move(action.events);
  network().later(*this, world().draw(Duration::from_us(100), truth_.disk.append_latency), [this] {
    const std::vector<CatalogueEvent> events = std::exchange(appending_, {});
    absl::Status status = absl::ResourceExhaustedError("the disk is full");
    if (!truth_.disk.full) status = truth_.disk.store->append(events).status();
    if (status.ok()) truth_.appended(events);
    // The acknowledgement comes a moment later: a crash may fall in between.
    network().later(*this, world().draw(Duration::from_us(10), Duration::from_us(500)), [this, status] { inputs_.emplace_back(node::Appended{status}); });
  });
}

void ControllerNode::perform(node::SendDirective& action) {
  if (const auto stream = streams_.find(action.stream); stream != streams_.end()) stream->second->down(std::move(action.directive), 2048);
}

void ControllerNode::perform(node::RefuseStream& action) {
  const auto stream = streams_.find(action.stream);
  if (stream == streams_.end()) return;
  const std::shared_ptr<JoinWire> wire = stream->second;
  wire->down(Directive(Refused{action.status}));
  wire->link->close(1, absl::OkStatus());
}

void ControllerNode::perform(node::CommitReply& reply) {
  if (reply.result.ok()) {
    const TagState* tag = truth_.disk.durable.tag(reply.result->name, reply.result->tag);
    if (truth_.disk.durable.find(reply.result->digest) == nullptr || tag == nullptr || tag->revision != reply.result->digest) {
      world().fail(str_cat("a commit of ", reply.result->name, " is answered before the disk has it"));
    }
    truth_.check_catalogue(machine_->catalogue(), "when it answers a commit");
  }
  commits_.finish(world(), reply.call, std::move(reply.result));
}

void ControllerNode::perform(node::TagMoveReply& reply) {
  if (reply.result.ok()) {
    const TagState* tag = truth_.disk.durable.tag(reply.result->name, reply.result->tag);
    if (tag == nullptr || tag->revision != reply.result->revision) world().fail(str_cat("a tag of ", reply.result->name, " is said to have moved before the disk has it"));
  }
  moves_.finish(world(), reply.call, std::move(reply.result));
}

void ControllerNode::perform(node::RemovalReply& reply) {
  if (reply.result.ok()) truth_.check_catalogue(machine_->catalogue(), "when it answers a removal");
  removals_.finish(world(), reply.call, std::move(reply.result));
}

size_t ControllerNode::unanswered() const {
  return plans_.size() + commits_.size() + moves_.size() + removals_.size() + models_.size() + clusters_.size() + dones_.size();
}

}  // namespace cenote::simulate
