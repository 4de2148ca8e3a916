// The router's role: node/router.h joined with gRPC and the controller.
//
// Threads: gRPC's, which bring events, step the state machine in turns (bin/turn.h) and write what it decided; the role's own sees to
// deadlines, reports and the end. Nothing here looks into a payload: a request's is shared by reference until it is written, a reply's is
// moved from message to message.
#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "bin/controller_news.h"
#include "bin/controller_pulse.h"
#include "bin/mailbox.h"
#include "bin/open_count.h"
#include "bin/open_files.h"
#include "bin/process_usage.h"
#include "bin/roles.h"
#include "bin/turn.h"
#include "node/router.h"
#include "wire/controller_link.h"
#include "wire/inference_service.h"
#include "wire/inference_session.h"
#include "wire/server.h"

namespace cenote {
namespace {

using node::router::LinkId;
using node::router::SessionId;
// A request has kInlinePayloadBytesMax of payload and the heads of its tensors; replies may be large.
constexpr int kRequestBytesMax = 2 << 20;
// Open files that are not callers': links to executors and the controller, gRPC's own.
constexpr uint64_t kOwnFiles = 1200;
struct ControllerUp {};
using Event = std::variant<node::router::Event, ControllerUp, Directive>;

class RouterRole {
 public:
  RouterRole(const RoleContext& context, const RouterSettings& settings)
      : context_(context), settings_(settings),
        mailbox_(size_t{2} * (settings.queue_max + settings.outstanding_max) + 1024),
        machine_({.name = context.name, .queue_max = settings.queue_max, .outstanding_max = settings.outstanding_max,
                  .retry_max = settings.retry_max, .deadline = settings.deadline,
                  .silence_max = context.settings.silence_max}) {}
  ~RouterRole() { stop(); }

  absl::Status run() {
    CENOTE_RETURN_IF_ERROR(start());
    loop();
    LOG_INFO("stopping");
    stop();
    return drained_by_controller_ ? absl::CancelledError("drained by the controller's word") : absl::OkStatus();
  }

 private:
  absl::Status start() {
    CENOTE_ASSIGN_OR_RETURN(identity_, wire::load_node_identity(context_.state_directory + "/certificates"));
    service_ = wire::InferenceService::create({.opened = [this](SessionId s) { post(node::router::Event(node::router::SessionOpened{s})); },
                                               .arrived = [this](SessionId s, wire::InferUp up) { arrived(s, std::move(up)); },
                                               .closed = [this](SessionId s) { post(node::router::Event(node::router::SessionClosed{s})); },
                                               .settled = [this] { settled(); }},
                                              identity_.revoked, {.sessions_max = sessions_allowed(), .setting = "router.sessions_max"});
    CENOTE_ASSIGN_OR_RETURN(server_, wire::Server::start({.host = settings_.host, .port = settings_.port,
                                                          .message_bytes_max = wire::kPayloadMessageBytesMax,
                                                          .receive_bytes_max = kRequestBytesMax},
                                                         wire::server_credentials(identity_), {service_->service()}));
    const ControllerSettings& controller = context_.settings.controller;
    link_ = wire::ControllerLink::open({.address = wire::format_address(controller.host, controller.port), .identity = identity_},
                                       {.on_connected = [this] { post(ControllerUp{}); },
                                        .on_directive =
                                            [this](Directive directive) {
                                              controller_news_.spoke();
                                              post(std::move(directive));
                                            },
                                        .on_disconnected = [this](const absl::Status& why) { controller_news_.disconnected(why); }});
    LOG_INFO("router on {}, queue_max {}, outstanding_max {}", server_->address(), settings_.queue_max, settings_.outstanding_max);
    return absl::OkStatus();
  }

  // As many as the settings say, or as this process may have files open.
  size_t sessions_allowed() const {
    const uint64_t files = raise_open_files();
    const uint64_t fit = files - std::min(kOwnFiles, files / 4);
    if (settings_.sessions_max <= fit) return settings_.sessions_max;
    LOG_WARNING("router.sessions_max is {}, but with {} open files allowed {} sessions are: raise `ulimit -n` where the cluster is started",
                settings_.sessions_max, files, fit);
    return fit;
  }

  void loop() {
    turn_.work([this] { running_ = true; });
    while (!ended_) {
      Instant until;
      turn_.work([&] {
        round();
        until = sleeps_until_;
      });
      if (!ended_) mailbox_.sleep(until, {draining_ ? -1 : context_.stop_fd});
    }
  }

  // This thread's own, for what is due: it sleeps until then, until it is told to stop, or until a guest's step moves that time.
  void round() {
    const Instant now = monotonic_now();
    pulse_.step(now, *link_);
    inputs_.clear();
    if (!draining_ && (drained_by_controller_ || context_.stop_requested())) {
      drain_end_ = now + context_.settings.drain_timeout;
      draining_ = true;
      inputs_.push_back(node::router::DrainBegan{});
      next_report_ = now;  // The controller hears of it.
    }
    step(now);
    if (now >= next_report_) {
      report();
      next_report_ = now + context_.settings.controller.heartbeat_interval;
    }
    ended_ = machine_.drained() || now >= drain_end_;
    sleeps_until_ = std::min({next_report_, machine_.next_deadline(), pulse_.next(), drain_end_});
    if (drained_by_controller_ && !draining_) sleeps_until_ = now;
  }

  // gRPC's threads, which bring the events.
  void step_as_guest() {
    if (!running_) return;
    inputs_.clear();
    step(monotonic_now());
    const bool due = machine_.next_deadline() < sleeps_until_ || machine_.drained() || (drained_by_controller_ && !draining_);
    if (!due) return;
    sleeps_until_ = Instant{0};  // It is being woken: nobody else need do that.
    mailbox_.wake();
  }

  void step(Instant now) {
    mailbox_.take(events_);
    for (Event& event : events_) take(std::move(event));
    actions_.clear();
    machine_.step(now, inputs_, actions_);
    perform_all(actions_);
    // After its actions: a session may open and close within one batch.
    for (const SessionId closed : closed_) welcomed_.erase(closed);
    closed_.clear();
  }

  // ---- events ------------------------------------------------------------------------------------------------------------
  // For what an earlier event or action of ours bounds. One that comes with others is stepped with them (settled()).
  void note(node::router::Event event) { mailbox_.post_answer_quietly(std::move(event)); }
  void post(Event event) {
    mailbox_.post_answer_quietly(std::move(event));
    settled();
  }
  void settled() {
    turn_.work_or_leave([this] { step_as_guest(); });
  }

  void arrived(SessionId session, wire::InferUp up) {
    if (auto* request = std::get_if<InferRequest>(&up)) {
      const RequestId id = request->id;
      if (request->payload_bytes > context_.settings.payload_bytes_max) {
        service_->send(session, InferReply{.id = id, .status = absl::ResourceExhaustedError(str_cat(
                                                         "inputs of ", request->payload_bytes, " bytes, limits.payload_max is ",
                                                         context_.settings.payload_bytes_max))});
        return;
      }
      auto shared = std::make_shared<const InferRequest>(std::move(*request));
      const absl::Status status = mailbox_.post_quietly(node::router::Event(node::router::RequestArrived{session, std::move(shared)}));
      if (!status.ok()) service_->send(session, InferReply{.id = id, .status = status});
    } else if (const auto* cancel = std::get_if<wire::CancelInfer>(&up)) {
      (void)mailbox_.post_quietly(node::router::Event(node::router::CancelArrived{session, cancel->id}));  // Without it the deadline ends it.
    }
  }

  void from_executor(LinkId link, wire::InferDown down) {
    struct Post {
      RouterRole& role;
      LinkId link;
      void operator()(const wire::Welcome& w) {
        role.note(node::router::LinkUp{.link = link, .incarnation = w.incarnation, .credits = w.credits, .draining = w.draining, .beat = w.beat});
      }
      void operator()(InferReply& reply) { role.note(node::router::ReplyArrived{link, std::move(reply)}); }
      void operator()(const Ticket&) {}  // Executors give none.
      void operator()(const wire::SlotReleased& freed) { role.note(node::router::SlotFreed{link, freed.id, freed.status}); }
      void operator()(const wire::CreditsChanged& c) {
        role.note(node::router::LinkCredits{.link = link, .credits = c.credits, .draining = c.draining});
      }
      void operator()(const wire::RequestStuck& stuck) { role.note(node::router::LinkStuck{link, stuck.id}); }
      void operator()(const wire::PeerBeat& beat) { role.note(node::router::LinkBeat{link, beat.next}); }
    };
    std::visit(Post{*this, link}, down);
  }

  void take(Event event) {
    if (auto* input = std::get_if<node::router::Event>(&event)) {
      if (const auto* lost = std::get_if<node::router::LinkLost>(input)) links_.erase(lost->link);
      if (const auto* closed = std::get_if<node::router::SessionClosed>(input)) closed_.push_back(closed->session);
      inputs_.push_back(std::move(*input));
    } else if (std::holds_alternative<ControllerUp>(event)) {
      report();
    } else {
      obey(std::get<Directive>(std::move(event)));
    }
  }

  void obey(Directive directive) {
    if (auto* view = std::get_if<ClusterView>(&directive)) {
      inputs_.push_back(node::router::ViewChanged{std::move(*view)});
    } else if (std::holds_alternative<DrainMember>(directive)) {
      drained_by_controller_ = true;
    } else if (const auto* refused = std::get_if<Refused>(&directive)) {
      LOG_ERROR("the controller refuses this router: {}", std::string(refused->status.message()));
    }
  }

  // ---- actions -----------------------------------------------------------------------------------------------------------
  // What one step sends a peer goes as one message.
  void perform_all(std::vector<node::router::Action>& actions) {
    service_->cork();
    for (node::router::Action& action : actions) {
      std::visit([this](auto& a) { perform(a); }, action);
    }
    service_->uncork();
    for (const auto& link : corked_links_) link->uncork();
    corked_links_.clear();
  }
  void perform(node::router::OpenLink& action) {
    auto session = wire::InferenceSession::create(action.address, identity_);
    links_[action.link] = session;
    open_links_.add();
    session->start({.on_message = [this, link = action.link](wire::InferDown down) { from_executor(link, std::move(down)); },
                    .on_closed =
                        [this, link = action.link, name = action.executor](absl::Status why) {
                          LOG_DEBUG("link to {}: {}", name, std::string(why.message()));
                          post(node::router::Event(node::router::LinkLost{link, std::move(why)}));
                          open_links_.remove();
                        },
                    .on_settled = [this] { settled(); }});
  }
  void perform(node::router::CloseLink& action) {
    if (const auto link = links_.extract(action.link); !link.empty()) link.mapped()->close();
  }
  void perform(node::router::SendRequest& action) {
    lost_if_not(action.link, [&](wire::InferenceSession& link) {
      return link.send(*action.request, {.budget = action.budget, .revision = action.revision, .by_ticket = false});
    });
  }
  void perform(node::router::SendReserve& action) {
    lost_if_not(action.link, [&](wire::InferenceSession& link) {
      return link.send(wire::ReserveSlot{.id = action.id, .revision = action.revision, .expires_in = action.expires_in});
    });
  }
  void perform(node::router::SendCancel& action) {
    lost_if_not(action.link, [&](wire::InferenceSession& link) { return link.send(wire::CancelInfer{action.id}); });
  }
  void perform(node::router::SendReply& action) { service_->send(action.session, std::move(action.reply)); }
  void perform(node::router::SendTicket& action) { service_->send(action.session, std::move(action.ticket)); }
  void perform(node::router::Announce& action) {
    if (welcomed_.insert(action.session).second) {
      service_->send(action.session, wire::Welcome{.incarnation = incarnation_, .name = context_.name, .credits = action.credits,
                                                   .draining = action.draining, .beat = beat_interval(context_.settings.silence_max)});
    } else {
      service_->send(action.session, wire::CreditsChanged{.credits = action.credits, .draining = action.draining});
    }
  }

  void perform(node::router::SendBeat& action) { service_->send(action.session, wire::PeerBeat{action.next, action.own}); }
  void perform(node::router::Noticed& action) {
    if (action.silent) {
      LOG_WARNING("executor {} is silent; {} requests go to others until it speaks again", action.executor, action.requests);
    } else {
      LOG_INFO("executor {} speaks again; {} requests stayed with it", action.executor, action.requests);
    }
  }

  // A link that takes no message is closing already, or its executor does not read: then it is ended. LinkLost follows either way.
  template <typename Send>
  void lost_if_not(LinkId id, Send&& send) {
    const auto link = links_.find(id);
    if (link == links_.end()) return;
    if (corked_links_.empty() || corked_links_.back() != link->second) {
      link->second->cork();
      corked_links_.push_back(link->second);
    }
    if (!send(*link->second).ok()) link->second->cancel();
  }

  void report() {
    const node::RouterCounts counts = machine_.counts();
    MemberReport report{.name = context_.name, .role = Role::kRouter, .incarnation = incarnation_, .address = server_->address(),
                        .draining = draining_, .outstanding = counts.outstanding, .queued = counts.queued, .routed = counts.routed,
                        .refused = counts.refused, .retried = counts.retried,
                        .suspected = counts.suspected + pulse_.suspected(), .stalls = pulse_.stalls().stalls,
                        .stall_longest = pulse_.stalls().longest};
    fill_process_usage(report);
    link_->report(report);
  }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    turn_.work([this] { running_ = false; });
    link_.reset();
    if (service_ != nullptr) service_->close_all();
    for (const auto& [id, link] : links_) link->cancel();
    // gRPC's threads call into this object until the last link has closed.
    open_links_.wait_for_none();
    if (server_ != nullptr) server_->stop(Duration::from_ms(500));
    mailbox_.close();
  }

  const RoleContext& context_;
  const RouterSettings& settings_;
  const Incarnation incarnation_ = new_incarnation();
  Mailbox<Event> mailbox_;
  Turn turn_;  // What is below is touched by whoever has it; but for service, server and identity, which start() makes.
  node::Router machine_;
  wire::Identity identity_;
  std::unique_ptr<wire::InferenceService> service_;
  std::unique_ptr<wire::Server> server_;
  ControllerNews controller_news_;
  std::unique_ptr<wire::ControllerLink> link_;
  ControllerPulse pulse_{context_.settings.silence_max};
  std::map<LinkId, std::shared_ptr<wire::InferenceSession>> links_;
  std::vector<std::shared_ptr<wire::InferenceSession>> corked_links_;  // In the batch of actions under way; some perhaps twice.
  OpenCount open_links_;
  std::set<SessionId> welcomed_;
  std::vector<SessionId> closed_;  // In the batch of events under way.
  std::vector<Event> events_;
  std::vector<node::router::Event> inputs_;
  std::vector<node::router::Action> actions_;
  Instant next_report_;
  Instant drain_end_ = Instant::infinite_future();  // Set once draining.
  Instant sleeps_until_;
  bool running_ = false;  // Between start() and stop(): guests step.
  bool ended_ = false;
  bool draining_ = false;
  bool drained_by_controller_ = false;
  bool stopped_ = false;
};

}  // namespace

absl::Status run_router(const RoleContext& context) {
  const RouterSettings* settings = context.settings.router(context.name);
  if (settings == nullptr) {
    return absl::InvalidArgumentError(str_cat(context.settings.file, " has no router named ", context.name,
                                              "; its [[router]] sections name those there are"));
  }
  return RouterRole(context, *settings).run();
}

}  // namespace cenote
