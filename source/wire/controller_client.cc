#include "wire/controller_client.h"

#include "base/status.h"
#include "wire/bounds.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/convert_control.h"
#include "wire/convert_record.h"
#include "wire/unary.h"

namespace cenote::wire {
namespace {

using Stub = v1::Controller::Stub;
template <typename Request, typename Reply>
using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Reply*);

class GrpcControllerClient final : public ControllerClient {
 public:
  GrpcControllerClient(std::string address, const Identity& identity)
      : address_(std::move(address)),
        stub_(v1::Controller::NewStub(open_channel(address_, channel_credentials(identity)))) {}

  absl::StatusOr<DeployPlan> begin_deploy(const DeployRequest& request, const CallOptions& options) override {
    v1::BeginDeployRequest proto;
    to_proto(request, &proto);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::BeginDeploy, proto, options));
    return from_proto(reply);
  }
  absl::Status renew_deploy(uint64_t deploy, const CallOptions& options) override {
    return call(&Stub::RenewDeploy, lease(deploy), options).status();
  }
  absl::StatusOr<DeployResult> commit_deploy(uint64_t deploy, const RevisionRecord& record, const std::string& operation, const CallOptions& options) override {
    v1::CommitDeployRequest proto;
    proto.set_operation(operation);
    proto.set_deploy(deploy);
    to_proto(record, proto.mutable_record());
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::CommitDeploy, proto, options));
    return from_proto(reply);
  }
  absl::Status abort_deploy(uint64_t deploy, const CallOptions& options) override {
    return call(&Stub::AbortDeploy, lease(deploy), options).status();
  }
  absl::StatusOr<TagMove> publish(const std::string& model, const std::string& tag, const std::string& operation, const CallOptions& options) override {
    auto proto = named<v1::PublishRequest>(model);
    proto.set_tag(tag);
    proto.set_operation(operation);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Publish, proto, options));
    return from_proto(reply);
  }
  absl::StatusOr<TagMove> rollback(const std::string& model, const std::string& operation, const CallOptions& options) override {
    auto proto = named<v1::RollbackRequest>(model);
    proto.set_operation(operation);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Rollback, proto, options));
    return from_proto(reply);
  }
  absl::StatusOr<Removal> remove(const std::string& model, const std::string& operation, const CallOptions& options) override {
    auto proto = named<v1::RemoveRequest>(model);
    proto.set_operation(operation);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Remove, proto, options));
    return from_proto(reply);
  }
  absl::Status evict(const std::string& model, const CallOptions& options) override {
    return call(&Stub::Evict, named<v1::EvictRequest>(model), options).status();
  }
  absl::StatusOr<std::vector<ModelInfo>> models(const std::string& model, bool blocks, const CallOptions& options) override {
    auto proto = named<v1::ModelsRequest>(model);
    proto.set_blocks(blocks);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Models, proto, options));
    std::vector<ModelInfo> models;
    for (const v1::ModelInfo& entry : reply.models()) {
      CENOTE_ASSIGN_OR_RETURN(models.emplace_back(), from_proto(entry));
    }
    return models;
  }
  absl::StatusOr<ClusterStatus> cluster(const CallOptions& options) override {
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Cluster, v1::Empty(), options));
    return from_proto(reply);
  }
  absl::StatusOr<EventPage> read_events(uint64_t from, const CallOptions& options) override {
    v1::ReadEventsRequest proto;
    proto.set_from(from);
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::ReadEvents, proto, options));
    return from_proto(reply);
  }
  absl::StatusOr<Unclaimed> find_unclaimed(const CallOptions& options) override {
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::FindUnclaimed, v1::Empty(), options));
    return from_proto(reply);
  }
  absl::StatusOr<DeployResult> adopt(const RevisionRecord& record, const CallOptions& options) override {
    v1::AdoptRequest proto;
    to_proto(record, proto.mutable_record());
    CENOTE_ASSIGN_OR_RETURN(const auto reply, call(&Stub::Adopt, proto, options));
    return from_proto(reply);
  }
  absl::Status hold_drops(bool hold, const CallOptions& options) override {
    v1::HoldDropsRequest proto;
    proto.set_hold(hold);
    return call(&Stub::HoldDrops, proto, options).status();
  }
  absl::Status drain(const std::string& member, const CallOptions& options) override {
    v1::DrainRequest proto;
    proto.set_member(utf8_text(member, kStatusTextBytesMax));
    return call(&Stub::Drain, proto, options).status();
  }

 private:
  template <typename Request>
  static Request named(const std::string& model) {
    Request request;
    request.set_model(utf8_text(model, kStatusTextBytesMax));
    return request;
  }
  static v1::RenewDeployRequest lease(uint64_t deploy) {
    v1::RenewDeployRequest request;
    request.set_deploy(deploy);
    return request;
  }
  template <typename Request, typename Reply>
  absl::StatusOr<Reply> call(Method<Request, Reply> method, const Request& request, const CallOptions& options) {
    return unary<Reply>(address_, {options.timeout, options.cancellation}, request,
                        [&](auto* c, const auto& q, auto* r) { return (stub_.get()->*method)(c, q, r); });
  }

  const std::string address_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<ControllerClient> ControllerClient::open(const std::string& address, const Identity& identity) {
  return std::make_unique<GrpcControllerClient>(address, identity);
}

}  // namespace cenote::wire
