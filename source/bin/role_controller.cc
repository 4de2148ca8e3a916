// The controller's role: node/controller.h joined with gRPC and the store.
//
// Threads: this one steps the state machine; Worker owns the store, whose appends wait for the disk; gRPC's post events.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "bin/audited.h"
#include "bin/calls.h"
#include "bin/mailbox.h"
#include "bin/process_usage.h"
#include "bin/roles.h"
#include "bin/worker.h"
#include "node/controller.h"
#include "store/event_store.h"
#include "store/read_catalogue.h"
#include "wire/controller_service.h"
#include "wire/credentials.h"
#include "wire/server.h"

namespace cenote {
namespace {

constexpr size_t kEventsMax = 16384;
constexpr uint32_t kPagesMax = 64;

absl::StatusOr<node::ControllerOptions> options_of(const ClusterSettings& settings) {
  node::ControllerOptions options{.cluster = settings.name,
                                  .member_timeout = settings.controller.member_timeout,
                                  .deploy_lease = settings.deploy_lease,
                                  .replicas = settings.replicas,
                                  .repair_after = settings.controller.repair_after,
                                  .fresh_lineage = new_incarnation(),
                                  .first_version = static_cast<uint64_t>(wall_clock_us())};
  CENOTE_ASSIGN_OR_RETURN(options.placement, placement_policy_from_name(settings.placement_policy));
  options.health.probation = settings.controller.probation;
  if (settings.group.kind == GroupSetting::Kind::kBytes) options.group_bytes = settings.group.bytes;
  for (const MemorySettings& memory : settings.memory) {
    options.failure_domains[memory.name] = memory.failure_domain;
    options.expected.insert(memory.name);
  }
  for (const TenantSettings& tenant : settings.tenants) options.tenants[tenant.name] = {tenant.pool_bytes_max, tenant.models_max};
  for (const AgentSettings& agent : settings.agents) {
    options.expected.insert(agent.name);
    for (const DeviceSettings& device : agent.devices) {
      options.agent_devices[agent.name].push_back(device.name);
      options.device_models[str_cat(agent.name, "/", device.name)] = device.models;
    }
  }
  return options;
}

class ControllerRole {
 public:
  explicit ControllerRole(const RoleContext& context) : context_(context), mailbox_(kEventsMax) {}
  ~ControllerRole() { stop(); }

  absl::Status run() {
    CENOTE_RETURN_IF_ERROR(start());
    std::vector<node::ControllerEvent> events;
    std::vector<node::ControllerAction> actions;
    while (!context_.stop_requested()) {
      mailbox_.wait(machine_->next_deadline(), {context_.stop_fd}, events);
      for (node::ControllerEvent& event : events) {
        if (auto* asked = std::get_if<node::ClusterAsked>(&event)) asked->self = self_report();
      }
      actions.clear();
      machine_->step(monotonic_now(), events, actions);
      for (node::ControllerAction& action : actions) {
        std::visit([this](auto& a) { perform(a); }, action);
      }
    }
    LOG_INFO("stopping");
    stop();
    return absl::OkStatus();
  }

 private:
  absl::Status start() {
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_node_identity(context_.state_directory + "/certificates"));
    CENOTE_ASSIGN_OR_RETURN(store_, open_sqlite_store(context_.state_directory + "/catalogue.db"));
    CENOTE_ASSIGN_OR_RETURN(Catalogue catalogue, read_catalogue(*store_));
    // What cannot be written now, on a full disk, is as long as before and read as before.
    if (const absl::Status compacted = compact_if_long(*store_, catalogue); !compacted.ok()) LOG_WARNING("compacting the catalogue: {}", compacted.message());
    CENOTE_ASSIGN_OR_RETURN(node::ControllerOptions options, options_of(context_.settings));
    LOG_INFO("catalogue: {} events, {} revisions", store_->last(), catalogue.revisions().size());
    if (!catalogue.held_because().empty()) LOG_WARNING("memory servers keep what no revision needs: {}; see `cenote rebuild --help`", catalogue.held_because());
    options.events_stored = store_->last();
    const AuditSettings& audit = context_.settings.audit;
    CENOTE_ASSIGN_OR_RETURN(auto log, AuditLog::open(context_.state_directory + "/audit/controller.jsonl", audit.file_bytes_max));
    audit_ = std::make_unique<Audited>(std::move(log), audit.required);
    machine_ = std::make_unique<node::Controller>(std::move(options), std::move(catalogue), monotonic_now());
    worker_ = std::make_unique<Worker>();
    service_ = wire::make_controller_service(handlers());
    CENOTE_ASSIGN_OR_RETURN(server_, wire::Server::start({.host = context_.settings.controller.host, .port = context_.settings.controller.port},
                                                         wire::server_credentials(identity), {service_.get()}));
    LOG_INFO("controller on {}, pid {}", server_->address(), ::getpid());
    return absl::OkStatus();
  }

  template <typename Result, typename Ask>
  void ask(Calls<Result>& calls, typename Calls<Result>::Done done, Ask event) {
    const uint64_t call = event.call = calls.add(next_call_, std::move(done));
    if (const absl::Status status = mailbox_.post(std::move(event)); !status.ok()) calls.finish(call, Result(status));
  }

  // A change: as ask(), between its two lines of the audit log.
  template <typename Result, typename Ask>
  void audited(AuditEntry entry, Calls<Result>& calls, Ask event, typename Calls<Result>::Done done) {
    audit_->change<Result>(
        std::move(entry), [this, &calls, event = std::move(event)](std::function<void(Result)> ended) { ask(calls, std::move(ended), event); }, std::move(done));
  }

  wire::ControllerHandlers handlers() {
    using namespace node;
    wire::ControllerHandlers h;
    h.joined = [this](uint64_t number, std::shared_ptr<wire::MemberStream> stream) {
      const std::lock_guard lock(streams_mutex_);
      streams_.emplace(number, std::move(stream));
    };
    h.reported = [this](uint64_t number, MemberReport report) {
      if (report.wall_clock_us != 0) report.clock_ahead_us = report.wall_clock_us - wall_clock_us();
      // Reports carry increments: one that cannot be taken ends its stream, and the member begins anew with all it has.
      if (const absl::Status status = mailbox_.post(Reported{number, std::move(report)}); status.code() == absl::StatusCode::kResourceExhausted) {
        if (const auto stream = find_stream(number)) stream->cancel();
      }
    };
    h.beat = [this](uint64_t number, Duration next) { (void)mailbox_.post(MemberBeat{number, next}); };  // Without it the next one counts.
    h.ended = [this](uint64_t number) {
      {
        const std::lock_guard lock(streams_mutex_);
        streams_.erase(number);
      }
      mailbox_.post_answer(StreamEnded{number});
    };
    h.begin = [this](Caller caller, DeployRequest request, Duration budget, auto done) {
      ask(begins_, std::move(done), BeginAsked{.request = std::move(request), .deadline = monotonic_now() + budget, .caller = std::move(caller)});
    };
    h.renew = [this](Caller caller, uint64_t deploy, auto done) { ask(dones_, std::move(done), RenewAsked{.deploy = deploy, .caller = std::move(caller)}); };
    h.commit = [this](Caller caller, uint64_t deploy, RevisionRecord record, std::string operation, Duration budget, auto done) {
      if (record.created_us == 0) record.created_us = wall_clock_us();
      AuditEntry entry{.action = "deploy", .what = {{"model", record.name}, {"digest", record.digest.hex()}, {"deploy", str_cat(deploy)}}, .who = caller};
      audited(std::move(entry), commits_, CommitAsked{.deploy = deploy, .record = std::move(record), .deadline = monotonic_now() + budget, .operation = std::move(operation), .caller = std::move(caller)}, std::move(done));
    };
    h.abort = [this](Caller caller, uint64_t deploy, auto done) { ask(dones_, std::move(done), AbortAsked{.deploy = deploy, .caller = std::move(caller)}); };
    h.publish = [this](Caller caller, std::string model, std::string tag, std::string operation, auto done) {
      AuditEntry entry{.action = "publish", .what = {{"model", model}, {"tag", tag}}, .who = caller};
      audited(std::move(entry), moves_, PublishAsked{.model = std::move(model), .tag = std::move(tag), .operation = std::move(operation), .caller = std::move(caller)}, std::move(done));
    };
    h.rollback = [this](Caller caller, std::string model, std::string operation, auto done) {
      AuditEntry entry{.action = "rollback", .what = {{"model", model}}, .who = caller};
      audited(std::move(entry), moves_, RollbackAsked{.model = std::move(model), .operation = std::move(operation), .caller = std::move(caller)}, std::move(done));
    };
    h.remove = [this](Caller caller, std::string model, std::string operation, auto done) {
      AuditEntry entry{.action = "remove", .what = {{"model", model}}, .who = caller};
      audited(std::move(entry), removals_, RemoveAsked{.model = std::move(model), .operation = std::move(operation), .caller = std::move(caller)}, std::move(done));
    };
    h.evict = [this](Caller caller, std::string model, auto done) {
      AuditEntry entry{.action = "evict", .what = {{"model", model}}, .who = caller};
      audited(std::move(entry), dones_, EvictAsked{.model = std::move(model)}, std::move(done));
    };
    h.drain = [this](Caller caller, std::string member, auto done) {
      AuditEntry entry{.action = "drain", .what = {{"member", member}}, .who = caller};
      audited(std::move(entry), dones_, MemberDrainAsked{.member = std::move(member)}, std::move(done));
    };
    h.models = [this](std::string model, bool blocks, auto done) { ask(models_, std::move(done), ModelsAsked{.model = std::move(model), .blocks = blocks}); };
    h.cluster = [this](auto done) { ask(clusters_, std::move(done), ClusterAsked{}); };
    h.read_events = [this](uint64_t from, auto done) { read_events(from, std::move(done)); };
    h.find_unclaimed = [this](auto done) { ask(unclaimed_, std::move(done), UnclaimedAsked{}); };
    h.adopt = [this](Caller caller, RevisionRecord record, auto done) {
      AuditEntry entry{.action = "adopt", .what = {{"model", record.name}, {"digest", record.digest.hex()}}, .who = std::move(caller)};
      audited(std::move(entry), commits_, AdoptAsked{.record = std::move(record)}, std::move(done));
    };
    h.hold_drops = [this](Caller caller, bool hold, auto done) {
      AuditEntry entry{.action = "hold drops", .what = {{"hold", hold ? "true" : "false"}}, .who = std::move(caller)};
      audited(std::move(entry), dones_, HoldDropsAsked{.hold = hold}, std::move(done));
    };
    return h;
  }

  MemberReport self_report() const {
    MemberReport report{.name = context_.name, .role = Role::kController, .incarnation = incarnation_, .address = server_->address()};
    fill_process_usage(report);
    report.suspected = machine_->suspected();
    report.stalls = machine_->stalls().stalls;
    report.stall_longest = machine_->stalls().longest;
    return report;
  }

  // The store is the worker's. Pages wait behind appends, one at a time: a backup does not hold up changes by more than one page.
  void read_events(uint64_t from, Calls<absl::StatusOr<EventPage>>::Done done) {
    const uint64_t call = pages_.add(next_call_, std::move(done));
    if (pages_waiting_.fetch_add(1) >= kPagesMax) {
      --pages_waiting_;
      return pages_.finish(call, absl::ResourceExhaustedError(str_cat(kPagesMax, " reads of the catalogue wait, the limit; try again in a moment")));
    }
    worker_->post([this, from, call] {
      pages_.finish(call, read_event_page(*store_, context_.settings.name, from));
      --pages_waiting_;
    });
  }

  std::shared_ptr<wire::MemberStream> find_stream(uint64_t number) {
    const std::lock_guard lock(streams_mutex_);
    const auto stream = streams_.find(number);
    return stream == streams_.end() ? nullptr : stream->second;
  }

  void perform(node::AppendEvents& action) {
    worker_->post([this, events = std::move(action.events)] {
      mailbox_.post_answer(node::Appended{store_->append(events).status()});  // At once: all or none.
    });
  }
  void perform(node::SendDirective& action) {
    if (const auto stream = find_stream(action.stream)) stream->send(action.directive);
  }
  void perform(node::RefuseStream& action) {
    if (const auto stream = find_stream(action.stream)) stream->refuse(action.status);
  }
  void perform(node::Say& action) {
    if (action.warning) {
      LOG_WARNING("{}", action.text);
    } else {
      LOG_INFO("{}", action.text);
    }
  }
  void perform(node::PlanReply& reply) { begins_.finish(reply.call, std::move(reply.result)); }
  void perform(node::CommitReply& reply) { commits_.finish(reply.call, std::move(reply.result)); }
  void perform(node::TagMoveReply& reply) { moves_.finish(reply.call, std::move(reply.result)); }
  void perform(node::RemovalReply& reply) { removals_.finish(reply.call, std::move(reply.result)); }
  void perform(node::ModelsReply& reply) { models_.finish(reply.call, std::move(reply.result)); }
  void perform(node::ClusterReply& reply) { clusters_.finish(reply.call, std::move(reply.result)); }
  void perform(node::UnclaimedReply& reply) { unclaimed_.finish(reply.call, std::move(reply.result)); }
  void perform(node::DoneReply& reply) { dones_.finish(reply.call, reply.result); }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    mailbox_.close();
    const absl::Status ending = absl::UnavailableError("the controller is stopping");
    begins_.fail_all(ending);
    commits_.fail_all(ending);
    moves_.fail_all(ending);
    removals_.fail_all(ending);
    models_.fail_all(ending);
    clusters_.fail_all(ending);
    unclaimed_.fail_all(ending);
    pages_.fail_all(ending);
    dones_.fail_all(ending);
    if (audit_ != nullptr) audit_->stop();  // What was begun has its end written and is answered.
    std::map<uint64_t, std::shared_ptr<wire::MemberStream>> streams;
    {
      const std::lock_guard lock(streams_mutex_);
      streams.swap(streams_);
    }
    for (const auto& [number, stream] : streams) stream->cancel();
    if (server_ != nullptr) server_->stop(Duration::from_ms(200));
    worker_.reset();  // Appends that were begun end.
  }

  const RoleContext& context_;
  const Incarnation incarnation_ = new_incarnation();
  Mailbox<node::ControllerEvent> mailbox_;
  std::unique_ptr<EventStore> store_;
  std::unique_ptr<node::Controller> machine_;
  std::unique_ptr<Worker> worker_;
  std::atomic<uint32_t> pages_waiting_{0};
  std::unique_ptr<Audited> audit_;
  std::atomic<uint64_t> next_call_{1};
  Calls<absl::StatusOr<DeployPlan>> begins_;
  Calls<absl::StatusOr<DeployResult>> commits_;
  Calls<absl::StatusOr<TagMove>> moves_;
  Calls<absl::StatusOr<Removal>> removals_;
  Calls<absl::StatusOr<std::vector<ModelInfo>>> models_;
  Calls<absl::StatusOr<ClusterStatus>> clusters_;
  Calls<absl::StatusOr<Unclaimed>> unclaimed_;
  Calls<absl::StatusOr<EventPage>> pages_;
  Calls<absl::Status> dones_;
  std::mutex streams_mutex_;
  std::map<uint64_t, std::shared_ptr<wire::MemberStream>> streams_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<wire::Server> server_;
  bool stopped_ = false;
};

}  // namespace

absl::Status run_controller(const RoleContext& context) { return ControllerRole(context).run(); }

}  // namespace cenote
