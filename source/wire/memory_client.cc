#include "wire/memory_client.h"

#include <condition_variable>
#include <mutex>
#include <set>

#include "base/status.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/convert_record.h"
#include "wire/unary.h"

namespace cenote::wire {
namespace {

struct GrantCall {
  grpc::ClientContext context;
  v1::GrantRequest request;
  v1::GrantReply reply;
  std::function<void(absl::StatusOr<Grant>)> done;
};

class GrpcMemoryClient final : public MemoryClient {
 public:
  GrpcMemoryClient(std::string address, const Identity& identity)
      : address_(std::move(address)),
        stub_(v1::Memory::NewStub(open_channel(address_, channel_credentials(identity)))) {}

  ~GrpcMemoryClient() override {
    std::unique_lock lock(mutex_);
    for (GrantCall* call : grants_) call->context.TryCancel();
    idle_.wait(lock, [this] { return grants_.empty(); });  // No deadline: they were cancelled.
  }

  void grant(std::vector<Digest> ids, const std::string& holder, Duration timeout,
             std::function<void(absl::StatusOr<Grant>)> done) override {
    auto* call = new GrantCall{.context = {}, .request = {}, .reply = {}, .done = std::move(done)};
    to_proto(GrantAsk{std::move(ids), holder, {timeout.ns / 2}}, &call->request);  // Half is the server's, half the way there and back.
    set_timeout(call->context, timeout);
    {
      const std::lock_guard lock(mutex_);
      grants_.insert(call);
    }
    stub_->async()->GrantRead(&call->context, &call->request, &call->reply,
                              [this, call](const grpc::Status& status) { granted(call, status); });
  }

  absl::StatusOr<SlabInfo> open_slab(uint64_t size_bytes, const std::string& writer, Duration timeout,
                                     Cancellation* cancellation) override {
    v1::OpenSlabRequest request;
    to_proto(SlabAsk{size_bytes, writer}, &request);
    CENOTE_ASSIGN_OR_RETURN(const auto reply,
                            unary<v1::OpenSlabReply>(address_, {timeout, cancellation}, request,
                                                     [&](auto* c, const auto& q, auto* r) { return stub_->OpenSlab(c, q, r); }));
    return from_proto(reply);
  }

  absl::StatusOr<SealResult> seal_slab(const SlabInfo& slab, const std::vector<SealRange>& ranges, Duration timeout,
                                       Cancellation* cancellation) override {
    v1::SealSlabRequest request;
    to_proto(SealAsk{slab.slab, slab.incarnation, ranges}, &request);
    CENOTE_ASSIGN_OR_RETURN(const auto reply,
                            unary<v1::SealSlabReply>(address_, {timeout, cancellation}, request,
                                                     [&](auto* c, const auto& q, auto* r) { return stub_->SealSlab(c, q, r); }));
    return from_proto(reply);
  }

  absl::Status abandon_slab(const SlabInfo& slab, Duration timeout) override {
    v1::AbandonSlabRequest request;
    request.set_slab(slab.slab);
    request.set_incarnation(slab.incarnation);
    return unary<v1::Empty>(address_, {timeout}, request,
                            [&](auto* c, const auto& q, auto* r) { return stub_->AbandonSlab(c, q, r); })
        .status();
  }

 private:
  void granted(GrantCall* call, const grpc::Status& status) {
    call->done(status.ok() ? from_proto(call->reply) : absl::StatusOr<Grant>(from_grpc(status, address_)));
    const std::lock_guard lock(mutex_);
    grants_.erase(call);
    delete call;
    if (grants_.empty()) idle_.notify_all();
  }

  const std::string address_;
  const std::unique_ptr<v1::Memory::Stub> stub_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::set<GrantCall*> grants_;  // Under way.
};

}  // namespace

std::unique_ptr<MemoryClient> MemoryClient::open(const std::string& address, const Identity& identity) {
  return std::make_unique<GrpcMemoryClient>(address, identity);
}

}  // namespace cenote::wire
