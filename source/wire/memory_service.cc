#include "wire/memory_service.h"

#include <utility>

#include "wire/cenote.grpc.pb.h"
#include "wire/unary.h"

namespace cenote::wire {
namespace {

class MemoryService final : public v1::Memory::CallbackService {
 public:
  explicit MemoryService(MemoryHandlers handlers) : handlers_(std::move(handlers)) {}

  grpc::ServerUnaryReactor* GrantRead(grpc::CallbackServerContext* context, const v1::GrantRequest* request, v1::GrantReply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<GrantAsk> ask = from_proto(*request);
    if (!ask.ok()) return refuse(reactor, ask.status());
    handlers_.grant(*std::move(ask), reply_with<Grant>(reactor, reply));
    return reactor;
  }

  grpc::ServerUnaryReactor* OpenSlab(grpc::CallbackServerContext* context, const v1::OpenSlabRequest* request, v1::OpenSlabReply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<SlabAsk> ask = from_proto(*request);
    if (!ask.ok()) return refuse(reactor, ask.status());
    handlers_.open(*std::move(ask), reply_with<SlabInfo>(reactor, reply));
    return reactor;
  }

  grpc::ServerUnaryReactor* SealSlab(grpc::CallbackServerContext* context, const v1::SealSlabRequest* request, v1::SealSlabReply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<SealAsk> ask = from_proto(*request);
    if (!ask.ok()) return refuse(reactor, ask.status());
    handlers_.seal(*std::move(ask), reply_with<SealResult>(reactor, reply));
    return reactor;
  }

  grpc::ServerUnaryReactor* AbandonSlab(grpc::CallbackServerContext* context, const v1::AbandonSlabRequest* request, v1::Empty*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    handlers_.abandon(request->slab(), request->incarnation(), reply_with_status(reactor));
    return reactor;
  }

 private:
  const MemoryHandlers handlers_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_memory_service(MemoryHandlers handlers) {
  return std::make_unique<MemoryService>(std::move(handlers));
}

}  // namespace cenote::wire
