#include "wire/controller_service.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "wire/bounds.h"
#include "wire/caller.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/convert_control.h"
#include "wire/convert_list.h"
#include "wire/convert_member.h"
#include "wire/credentials.h"
#include "wire/stream.h"
#include "wire/unary.h"

namespace cenote::wire {
namespace {

using JoinStream = ServerStream<v1::MemberReport, v1::Directive>;
using Reactor = grpc::ServerUnaryReactor;
using Context = grpc::CallbackServerContext;

constexpr Duration kBudgetMax = Duration::from_seconds(600);
constexpr Duration kAnswerMargin = Duration::from_ms(50);

Duration budget_of(const Context& context) {
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(context.deadline() - std::chrono::system_clock::now()).count();
  return Duration::from_us(std::clamp<int64_t>(left - kAnswerMargin.us(), 0, kBudgetMax.us()));
}

class Sender final : public MemberStream {
 public:
  explicit Sender(std::shared_ptr<Stream<v1::Directive>> stream) : stream_(std::move(stream)) {}

  void send(const Directive& directive) override {
    v1::Directive proto;
    to_proto(directive, &proto);
    (void)stream_->send_latest(static_cast<int>(directive.index()), std::move(proto));  // Fails only when it is ending.
  }
  void refuse(const absl::Status& status) override {
    send(Directive(Refused{status}));
    stream_->close();
  }
  void cancel() override { stream_->cancel(); }

 private:
  const std::shared_ptr<Stream<v1::Directive>> stream_;
};

class ControllerService final : public v1::Controller::CallbackService {
 public:
  explicit ControllerService(ControllerHandlers handlers) : handlers_(std::move(handlers)) {}

  grpc::ServerBidiReactor<v1::MemberReport, v1::Directive>* Join(Context* context) override {
    if (const absl::Status status = require_node(*context, "join the cluster"); !status.ok()) return JoinStream::refuse(context, status);
    const uint64_t number = next_stream_.fetch_add(1);
    const std::string peer = context->peer();
    // No message is read before this returns (gRPC binds the reactor then), so joined comes first.
    auto stream = JoinStream::open(
        context, {.peer = peer},
        {.on_message =
             [this, number, peer](v1::MemberReport&& proto) {
               if (const absl::StatusOr<Duration> beat = duration_of("beat", proto.beat_us()); beat.ok() && beat->ns > 0) {
                 return handlers_.beat(number, *beat);
               }
               absl::StatusOr<MemberReport> report = from_proto(proto);
               if (report.ok()) return handlers_.reported(number, *std::move(report));
               LOG_WARNING("a report from {} is left out: {}", peer, report.status().message());
             },
         .on_closed = [this, number](absl::Status) { handlers_.ended(number); }});
    handlers_.joined(number, std::make_shared<Sender>(stream));
    return stream->reactor();
  }

  Reactor* BeginDeploy(Context* context, const v1::BeginDeployRequest* request, v1::BeginDeployReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<DeployRequest> ask = from_proto(*request);
    if (!ask.ok()) return wire::refuse(reactor, ask.status());
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.begin(*std::move(caller), *std::move(ask), budget_of(*context), reply_with<DeployPlan>(reactor, reply));
    return reactor;
  }
  Reactor* RenewDeploy(Context* context, const v1::RenewDeployRequest* request, v1::Empty*) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.renew(*std::move(caller), request->deploy(), reply_with_status(reactor));
    return reactor;
  }
  Reactor* CommitDeploy(Context* context, const v1::CommitDeployRequest* request, v1::CommitDeployReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<RevisionRecord> record = from_proto(request->record());
    if (!record.ok()) return wire::refuse(reactor, record.status());
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    absl::StatusOr<std::string> operation = operation_of(request->operation());
    if (!operation.ok()) return wire::refuse(reactor, operation.status());
    handlers_.commit(*std::move(caller), request->deploy(), *std::move(record), *std::move(operation), budget_of(*context), reply_with<DeployResult>(reactor, reply));
    return reactor;
  }
  Reactor* AbortDeploy(Context* context, const v1::RenewDeployRequest* request, v1::Empty*) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.abort(*std::move(caller), request->deploy(), reply_with_status(reactor));
    return reactor;
  }
  Reactor* Publish(Context* context, const v1::PublishRequest* request, v1::TagReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = named(request->model(), request->tag()); !status.ok()) return wire::refuse(reactor, status);
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    absl::StatusOr<std::string> operation = operation_of(request->operation());
    if (!operation.ok()) return wire::refuse(reactor, operation.status());
    handlers_.publish(*std::move(caller), request->model(), request->tag(), *std::move(operation), reply_with<TagMove>(reactor, reply));
    return reactor;
  }
  Reactor* Rollback(Context* context, const v1::RollbackRequest* request, v1::TagReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = named(request->model()); !status.ok()) return wire::refuse(reactor, status);
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    absl::StatusOr<std::string> operation = operation_of(request->operation());
    if (!operation.ok()) return wire::refuse(reactor, operation.status());
    handlers_.rollback(*std::move(caller), request->model(), *std::move(operation), reply_with<TagMove>(reactor, reply));
    return reactor;
  }
  Reactor* Remove(Context* context, const v1::RemoveRequest* request, v1::RemoveReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = named(request->model()); !status.ok()) return wire::refuse(reactor, status);
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    absl::StatusOr<std::string> operation = operation_of(request->operation());
    if (!operation.ok()) return wire::refuse(reactor, operation.status());
    handlers_.remove(*std::move(caller), request->model(), *std::move(operation), reply_with<Removal>(reactor, reply));
    return reactor;
  }
  Reactor* Evict(Context* context, const v1::EvictRequest* request, v1::Empty*) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = named(request->model()); !status.ok()) return wire::refuse(reactor, status);
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.evict(*std::move(caller), request->model(), reply_with_status(reactor));
    return reactor;
  }
  Reactor* Models(Context* context, const v1::ModelsRequest* request, v1::ModelsReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = named(request->model()); !status.ok()) return wire::refuse(reactor, status);
    handlers_.models(request->model(), request->blocks(), [reactor, reply](absl::StatusOr<std::vector<ModelInfo>> models) {
      if (models.ok()) write_list(*models, reply->mutable_models());
      reactor->Finish(to_grpc(models.status()));
    });
    return reactor;
  }
  Reactor* Cluster(Context* context, const v1::Empty*, v1::ClusterReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    handlers_.cluster(reply_with<ClusterStatus>(reactor, reply));
    return reactor;
  }
  Reactor* ReadEvents(Context* context, const v1::ReadEventsRequest* request, v1::ReadEventsReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    handlers_.read_events(request->from(), reply_with<EventPage>(reactor, reply));
    return reactor;
  }
  Reactor* FindUnclaimed(Context* context, const v1::Empty*, v1::FindUnclaimedReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    handlers_.find_unclaimed(reply_with<Unclaimed>(reactor, reply));
    return reactor;
  }
  Reactor* Adopt(Context* context, const v1::AdoptRequest* request, v1::CommitDeployReply* reply) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<RevisionRecord> record = from_proto(request->record());
    if (!record.ok()) return wire::refuse(reactor, record.status());
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.adopt(*std::move(caller), *std::move(record), reply_with<DeployResult>(reactor, reply));
    return reactor;
  }
  Reactor* HoldDrops(Context* context, const v1::HoldDropsRequest* request, v1::Empty*) override {
    Reactor* reactor = context->DefaultReactor();
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.hold_drops(*std::move(caller), request->hold(), reply_with_status(reactor));
    return reactor;
  }
  Reactor* Drain(Context* context, const v1::DrainRequest* request, v1::Empty*) override {
    Reactor* reactor = context->DefaultReactor();
    if (const absl::Status status = check_text("member", request->member(), kNameBytesMax); !status.ok()) return wire::refuse(reactor, status);
    absl::StatusOr<Caller> caller = caller_of(*context);
    if (!caller.ok()) return wire::refuse(reactor, caller.status());
    handlers_.drain(*std::move(caller), request->member(), reply_with_status(reactor));
    return reactor;
  }

 private:
  static absl::Status named(const std::string& model, const std::string& tag = {}) {
    const absl::Status status = check_text("model", model, kNameBytesMax);
    return status.ok() ? check_text("tag", tag, kNameBytesMax) : status;
  }

  const ControllerHandlers handlers_;
  std::atomic<uint64_t> next_stream_{1};
};

}  // namespace

std::unique_ptr<grpc::Service> make_controller_service(ControllerHandlers handlers) {
  return std::make_unique<ControllerService>(std::move(handlers));
}

}  // namespace cenote::wire
