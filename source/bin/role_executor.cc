// The executor's role: node/executor.h joined with gRPC, its agent, and its device.
//
// Threads: ExecutorDevice's two prepare and compute; whichever thread brings a request or a result steps the state machine, in turns
// (bin/turn.h); the role's own sees to deadlines and the agent. Idle, all of them sleep; while weights arrive the role's own looks at their
// readiness every kReadinessCheck.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "node/acquires.h"
#include "bin/mailbox.h"
#include "bin/process_usage.h"
#include "bin/role_executor_device.h"
#include "bin/roles.h"
#include "bin/turn.h"
#include "node/executor.h"
#include "wire/agent_link.h"
#include "wire/inference_service.h"
#include "wire/server.h"

namespace cenote {
namespace {

using node::executor::SessionId;
struct AgentGone { absl::Status why; };
using Event = std::variant<node::executor::Event, DeviceEvent, ExecutorDown, AgentGone>;

constexpr Duration kReadinessCheck = Duration::from_ms(10);
constexpr size_t kEventsMax = 8192;
constexpr size_t kSmallResultBytes = 64 << 10;

// An executor's place in the settings: its name is AGENT/DEVICE.
struct Place {
  const AgentSettings* agent = nullptr;
  const DeviceSettings* device = nullptr;
};
absl::StatusOr<Place> find_place(const RoleContext& context) {
  const size_t slash = context.name.find('/');
  Place place;
  if (slash != std::string::npos) place.agent = context.settings.agent(context.name.substr(0, slash));
  if (place.agent != nullptr) {
    for (const DeviceSettings& device : place.agent->devices) {
      if (device.name == context.name.substr(slash + 1)) place.device = &device;
    }
  }
  if (place.device != nullptr) return place;
  return absl::InvalidArgumentError(str_cat(context.settings.file, " has no executor named ", context.name,
                                            "; write AGENT/DEVICE, both as its [[agent]] and [[agent.device]] sections name them"));
}

class ExecutorRole {
 public:
  ExecutorRole(const RoleContext& context, Place place)
      : context_(context), place_(place), mailbox_(kEventsMax),
        machine_({.name = context.name, .credits = place.device->credits, .queue_max = place.device->queue_max,
                  .held_bytes_max = std::max<uint64_t>(4 * context.settings.payload_bytes_max, uint64_t{1} << 28),
                  .payload_bytes_max = context.settings.payload_bytes_max,
                  .silence_max = context.settings.silence_max}) {}
  ~ExecutorRole() { stop(); }

  absl::Status run() {
    CENOTE_RETURN_IF_ERROR(start());
    absl::Status status = loop();
    LOG_INFO("stopping");
    stop();
    return status;
  }

 private:
  absl::Status start() {
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_node_identity(context_.state_directory + "/certificates"));
    CENOTE_ASSIGN_OR_RETURN(device_, ExecutorDevice::start(
                                         context_.settings, *place_.device, [this](DeviceEvent event, bool soon) { from_device(std::move(event), soon); },
                                         [this](const Want& want) { (void)agent_->send(want); }));  // Without it, only later.
    service_ = wire::InferenceService::create({.opened = [this](SessionId s) { post(node::executor::SessionOpened{s}); },
                                               .arrived = [this](SessionId s, wire::InferUp up) { arrived(s, std::move(up)); },
                                               .closed = [this](SessionId s) { post(node::executor::SessionClosed{s}); },
                                               .settled = [this] { settled(); }},
                                              identity.revoked);
    CENOTE_ASSIGN_OR_RETURN(server_, wire::Server::start({.host = place_.agent->host, .port = place_.device->port,
                                                          .message_bytes_max = wire::kPayloadMessageBytesMax},
                                                         wire::server_credentials(identity), {service_->service()}));
    agent_ = wire::AgentLink::open(str_cat(context_.state_directory, "/run/", place_.agent->name, ".sock"),
                                   {.on_message = [this](ExecutorDown down) { mailbox_.post_answer(std::move(down)); },
                                    .on_closed = [this](absl::Status why) { mailbox_.post_answer(AgentGone{std::move(why)}); }});
    LOG_INFO("executor of {} on {}", place_.device->name, server_->address());
    return report();
  }

  absl::Status loop() {
    next_beat_ = monotonic_now();
    next_report_ = next_beat_ + context_.settings.controller.heartbeat_interval;
    turn_.work([this] { running_ = true; });
    std::optional<absl::Status> end;
    while (!end) {
      Instant until;
      turn_.work([&] {
        end = round();
        until = sleeps_until_;
      });
      if (!end) mailbox_.sleep(until, {draining_ ? -1 : context_.stop_fd});
    }
    return *end;
  }

  // This thread's own, for what is due: it sleeps until then, until it is told to stop, or until it is woken. Returns how the role ends.
  std::optional<absl::Status> round() {
    const Instant now = monotonic_now();
    if (now >= next_beat_) {
      const Duration beat = beat_interval(context_.settings.silence_max);
      (void)agent_->send(AttachBeat{beat});  // Without it the next one counts; a closed link ends the executor.
      next_beat_ = now + Duration{beat.ns * 3 / 2};  // Twice a silence, as bin/controller_pulse.h.
    }
    inputs_.clear();
    take_all();
    if (agent_gone_) return absl::UnavailableError(str_cat("the agent ", place_.agent->name, " is gone: ", to_std(agent_gone_->message())));
    if (!failed_.ok()) return failed_;
    if (!draining_ && (drain_asked_ || context_.stop_requested())) {
      draining_ = true;
      drain_end_ = now + context_.settings.drain_timeout;
      inputs_.push_back(node::executor::DrainBegan{});
    }
    check_readiness();
    step(now);
    if (std::exchange(readiness_changed_, false) || now >= next_report_) {
      if (const absl::Status sent = report(); sent.code() == absl::StatusCode::kUnavailable) return annotate(sent, "the agent is gone");
      next_report_ = now + context_.settings.controller.heartbeat_interval;
    }
    if (machine_.drained() || now >= drain_end_) return absl::OkStatus();
    const Instant check = changing_ ? now + kReadinessCheck : Instant::infinite_future();
    sleeps_until_ = std::min({next_report_, machine_.next_deadline(), drain_end_, check, next_beat_});
    return std::nullopt;
  }

  // gRPC's threads and the computing one, which bring requests and results. What the agent says wakes the role's own.
  void step_as_guest() {
    if (!running_) return;
    inputs_.clear();
    take_all();
    step(monotonic_now());
    if (!readiness_changed_ && machine_.next_deadline() >= sleeps_until_ && !machine_.drained()) return;
    sleeps_until_ = Instant{0};  // It is being woken: nobody else need do that.
    mailbox_.wake();
  }

  void take_all() {
    mailbox_.take(events_);
    for (Event& event : events_) take(std::move(event));
  }

  void step(Instant now) {
    actions_.clear();
    machine_.step(now, inputs_, actions_);
    readiness_changed_ = machine_.take_readiness_changed() || readiness_changed_;
    service_->cork();  // What one step sends a peer goes as one message.
    for (node::executor::Action& action : actions_) {
      std::visit([this](auto& a) { perform(a); }, action);
    }
    service_->uncork();
    // After its actions: a session may open and close within one batch.
    for (const SessionId closed : closed_) welcomed_.erase(closed);
    closed_.clear();
  }

  // ---- events: sessions -------------------------------------------------------------------------------------------------
  void post(node::executor::Event event) {
    mailbox_.post_answer_quietly(std::move(event));
    settled();
  }
  void settled() {
    turn_.work_or_leave([this] { step_as_guest(); });
  }

  void arrived(SessionId session, wire::InferUp up) {
    struct Post {
      ExecutorRole& role;
      SessionId session;
      absl::Status operator()(InferRequest& request) {
        const RequestId id = request.id;
        absl::Status status;
        if (request.payload_bytes > role.context_.settings.payload_bytes_max) {
          status = absl::ResourceExhaustedError(str_cat("inputs of ", request.payload_bytes, " bytes, limits.payload_max is ",
                                                        role.context_.settings.payload_bytes_max));
        } else {
          status = role.mailbox_.post_quietly(node::executor::Event(
              node::executor::RequestArrived{session, std::make_shared<InferRequest>(std::move(request))}));
        }
        if (!status.ok()) role.service_->send(session, InferReply{.id = id, .status = status, .executor = role.context_.name});
        return status;
      }
      absl::Status operator()(const wire::CancelInfer& cancel) {
        return role.mailbox_.post_quietly(node::executor::Event(node::executor::CancelArrived{session, cancel.id}));
      }
      absl::Status operator()(const wire::ReserveSlot& reserve) {
        const absl::Status status = role.mailbox_.post_quietly(node::executor::Event(
            node::executor::ReserveArrived{session, reserve.id, reserve.revision, reserve.expires_in}));
        if (!status.ok()) role.service_->send(session, wire::SlotReleased{reserve.id, status});
        return status;
      }
    };
    (void)std::visit(Post{*this, session}, up);
  }

  // ---- events: the device ----------------------------------------------------------------------------------------------
  // A small result is sent on by the thread that computed it. A large one takes time to encrypt, and what waits is computed meanwhile.
  void from_device(DeviceEvent event, bool soon) {
    const auto* ended = std::get_if<node::executor::RunEnded>(&event);
    const bool small = ended != nullptr && std::ranges::all_of(ended->outputs, [](const Tensor& t) { return t.bytes.size() <= kSmallResultBytes; });
    if (!small) return mailbox_.post_answer(std::move(event));
    mailbox_.post_answer_quietly(std::move(event));
    if (!soon) settled();  // Else with the next one.
  }
  void take(Event event) {
    if (auto* input = std::get_if<node::executor::Event>(&event)) {
      if (const auto* closed = std::get_if<node::executor::SessionClosed>(input)) closed_.push_back(closed->session);
      inputs_.push_back(std::move(*input));
    } else if (auto* done = std::get_if<DeviceEvent>(&event)) {
      std::visit([this](auto& e) { take_from_device(e); }, *done);
    } else if (auto* down = std::get_if<ExecutorDown>(&event)) {
      std::visit([this](auto& e) { take_from_agent(e); }, *down);
    } else {
      agent_gone_ = std::get<AgentGone>(std::move(event)).why;
    }
  }

  void take_from_device(Prepared& prepared) {
    acquires_.prepared(prepared.revision);
    if (prepared.held != nullptr) {
      if (const auto early = fetched_early_.extract(prepared.revision); !early.empty()) prepared.held->fetch_done(early.mapped());
      held_[prepared.revision] = std::move(prepared.held);
      changing_ = true;
    } else {
      LOG_WARNING("revision {} cannot be opened: {}", prepared.revision.short_hex(), std::string(prepared.status.message()));
      fetched_early_.erase(prepared.revision);
      acquires_.given_back(prepared.revision);
      (void)agent_->send(ReleaseRevision{prepared.revision});
    }
    inputs_.push_back(node::executor::RevisionOpened{prepared.revision, prepared.status, prepared.all_cached});
  }
  void take_from_device(const Closed& closed) {
    acquires_.given_back(closed.revision);
    if (!released_.erase(closed.revision)) (void)agent_->send(ReleaseRevision{closed.revision});
    inputs_.push_back(node::executor::RevisionClosed{closed.revision});
  }
  void take_from_device(node::executor::RunEnded& ended) { inputs_.push_back(std::move(ended)); }
  void take_from_device(node::executor::WarmUpEnded& ended) {
    if (!ended.status.ok()) LOG_WARNING("warming up {}: {}", ended.revision.short_hex(), std::string(ended.status.message()));
    inputs_.push_back(std::move(ended));
  }

  // What arrived, was mapped or failed since the last look. A device with memory of its own lets go of the cache once it has all.
  void check_readiness() {
    if (!changing_) return;
    changing_ = false;
    for (const auto& [revision, held] : held_) {
      const Readiness readiness = held->weights->readiness();
      const bool final = readiness == Readiness::kMapped || readiness == Readiness::kResident || readiness == Readiness::kFailed;
      if (!final) changing_ = true;
      if (readiness == std::exchange(held->reported, readiness)) continue;
      inputs_.push_back(node::executor::ReadinessChanged{revision, readiness, held->weights->status()});
      if (readiness == Readiness::kResident && !device_->maps_host_memory() && !std::exchange(held->released, true)) {
        held->weights->release_cache();
        (void)agent_->send(ReleaseRevision{revision});
      }
    }
  }

  // ---- events: the agent -----------------------------------------------------------------------------------------------
  void take_from_agent(const Attached& attached) {
    failed_ = device_->attach(attached.cache_path, attached.cache_bytes);
    attached_ = true;
    for (const auto& [revision, urgent] : acquires_.wanted()) acquire(revision, urgent);
  }
  void take_from_agent(Acquired& acquired) {
    Digest revision;
    switch (acquires_.answered(acquired.ticket, acquired.status.ok(), revision)) {
      case Acquires::Answer::kIgnore: return;
      case Acquires::Answer::kRelease: (void)agent_->send(ReleaseRevision{revision}); return;
      case Acquires::Answer::kPrepare: device_->open(revision, std::move(acquired)); return;
      case Acquires::Answer::kRefused: break;
    }
    inputs_.push_back(node::executor::RevisionOpened{revision, acquired.status, false});
  }
  void take_from_agent(Prefetch& prefetch) { inputs_.push_back(node::executor::PrefetchChanged{std::move(prefetch.revisions)}); }
  void take_from_agent(const EvictRevision& evict) { inputs_.push_back(node::executor::EvictAsked{evict.revision}); }
  void take_from_agent(const AttachBeat& beat) { inputs_.push_back(node::executor::AgentBeat{beat.next}); }
  void take_from_agent(const DrainExecutor&) { drain_asked_ = true; }
  void take_from_agent(const FetchDone& done) {
    if (done.refetched > 0) LOG_WARNING("revision {}: {} corrupt chunks were fetched again", done.revision.short_hex(), done.refetched);
    changing_ = true;
    if (const auto held = held_.find(done.revision); held != held_.end()) {
      held->second->fetch_done(done);
    } else if (acquires_.wants(done.revision)) {
      fetched_early_.insert_or_assign(done.revision, done);
    }
  }

  // ---- actions -----------------------------------------------------------------------------------------------------------
  void perform(node::executor::SendReply& action) { service_->send(action.session, std::move(action.reply)); }
  void perform(node::executor::SendFreed& action) {
    service_->send(action.session, wire::SlotReleased{action.id, std::move(action.status)});
  }
  void perform(node::executor::Announce& action) {
    if (welcomed_.insert(action.session).second) {
      service_->send(action.session, wire::Welcome{.incarnation = incarnation_, .name = context_.name, .credits = action.credits,
                                                   .draining = action.draining, .beat = beat_interval(context_.settings.silence_max)});
    } else {
      service_->send(action.session, wire::CreditsChanged{.credits = action.credits, .draining = action.draining});
    }
  }
  void perform(const node::executor::SendBeat& action) { service_->send(action.session, wire::PeerBeat{action.next, action.own}); }
  void perform(const node::executor::SendStuck& action) { service_->send(action.session, wire::RequestStuck{action.id}); }
  void perform(const node::executor::Noticed& action) {
    if (action.silent) {
      LOG_WARNING("the agent {} is silent; requests for what it has to fetch may go elsewhere", place_.agent->name);
    } else {
      LOG_INFO("the agent {} speaks again", place_.agent->name);
    }
  }
  void perform(const node::executor::OpenRevision& action) {
    acquires_.want(action.revision, action.urgent);
    if (attached_) acquire(action.revision, action.urgent);
  }
  void perform(const node::executor::CloseRevision& action) {
    auto held = held_.extract(action.revision);
    CENOTE_CHECK(!held.empty());
    if (held.mapped()->released) released_.insert(action.revision);
    device_->close(action.revision, std::move(held.mapped()));
  }
  void perform(node::executor::RunModel& action) {
    const auto held = held_.at(action.revision);
    device_->run(std::move(action), held);
  }
  void perform(const node::executor::WarmUp& action) { device_->warm_up(action.revision, held_.at(action.revision)); }

  // Asking again for one that is on its way tells the agent that it became urgent; the first answer counts.
  void acquire(const Digest& revision, bool urgent) {
    const uint64_t ticket = acquires_.ask(revision);
    if (ticket == 0) return;
    (void)agent_->send(Acquire{.ticket = ticket, .revision = revision, .urgent = urgent});  // A closed link ends the executor.
  }

  // ---- reports -----------------------------------------------------------------------------------------------------------
  ExecutorReport make_report() const {
    ExecutorReport report{.name = context_.name, .device = place_.device->name, .address = server_->address(), .incarnation = incarnation_};
    MemberReport usage;
    fill_process_usage(usage);
    report.pid = usage.pid;
    report.rss_bytes = usage.rss_bytes;
    report.cpu_seconds = usage.cpu_seconds;
    report.uptime_us = usage.uptime_us;
    machine_.fill_report(report);
    return report;
  }
  absl::Status report() {
    return agent_->send(make_report());
  }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    turn_.work([this] { running_ = false; });
    if (service_ != nullptr) service_->close_all();
    mailbox_.close();
    if (device_ != nullptr && device_->view() != nullptr) device_->view()->agent_lost();  // Ends waits for weights.
    for (auto& [revision, held] : held_) device_->close(revision, std::move(held));
    held_.clear();
    device_.reset();
    if (server_ != nullptr) server_->stop(Duration::from_ms(500));
    if (agent_ != nullptr) agent_->close();
    agent_.reset();
  }

  const RoleContext& context_;
  const Place place_;
  const Incarnation incarnation_ = new_incarnation();
  Mailbox<Event> mailbox_;
  Turn turn_;  // What is below is touched by whoever has it; but for agent, service, server and device, which start() makes.
  node::Executor machine_;
  std::unique_ptr<wire::AgentLink> agent_;
  std::unique_ptr<wire::InferenceService> service_;
  std::unique_ptr<wire::Server> server_;
  std::unique_ptr<ExecutorDevice> device_;
  std::vector<Event> events_;
  std::vector<node::executor::Event> inputs_;
  std::vector<node::executor::Action> actions_;
  std::set<SessionId> welcomed_;
  std::vector<SessionId> closed_;  // In the batch of events under way.
  Acquires acquires_;
  std::map<Digest, std::shared_ptr<HeldRevision>> held_;
  std::map<Digest, FetchDone> fetched_early_;        // Came before its revision was prepared.
  std::set<Digest> released_;                        // Closing ones whose cache the agent has back already.
  bool attached_ = false;
  bool changing_ = false;                            // Some held revision's readiness is not final.
  bool drain_asked_ = false;
  std::optional<absl::Status> agent_gone_;
  absl::Status failed_;
  Instant next_beat_, next_report_, sleeps_until_;
  Instant drain_end_ = Instant::infinite_future();  // Set once draining.
  bool draining_ = false;
  bool readiness_changed_ = false;                   // Since the last report.
  bool running_ = false;                             // Between start() and stop(): guests step.
  bool stopped_ = false;
};

}  // namespace

absl::Status run_executor(const RoleContext& context) {
  CENOTE_ASSIGN_OR_RETURN(const Place place, find_place(context));
  return ExecutorRole(context, place).run();
}

}  // namespace cenote
