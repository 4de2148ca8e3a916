#include "wire/inference_session.h"

#include "wire/bounds.h"
#include "wire/cenote.grpc.pb.h"
#include "wire/channel.h"
#include "wire/stream.h"

namespace cenote::wire {
namespace {

using SessionStream = ClientStream<v1::InferenceUp, v1::InferenceDown>;

class GrpcInferenceSession final : public InferenceSession, public std::enable_shared_from_this<GrpcInferenceSession> {
 public:
  GrpcInferenceSession(const std::string& address, const Identity& identity)
      : address_(address),
        channel_(open_channel(address, channel_credentials(identity), {.message_bytes_max = kPayloadMessageBytesMax})),
        stub_(v1::Inference::NewStub(channel_)) {}

  void start(InferenceSessionEvents events) override {
    // The stream keeps the session alive until on_closed: stub and channel must outlive the call.
    const auto self = shared_from_this();
    auto on_closed = std::move(events.on_closed);
    const std::lock_guard lock(mutex_);
    stream_ = SessionStream::open([&](auto* context, auto* reactor) { stub_->async()->Session(context, reactor); }, {.peer = address_},
                                  {.on_message =
                                       [self, on_message = std::move(events.on_message),
                                        on_settled = std::move(events.on_settled)](v1::InferenceDown&& proto) {
                                         const absl::Status status = take_each(std::move(proto), [&](InferDown down) {
                                           if (const auto* welcome = std::get_if<Welcome>(&down)) self->allow(welcome->credits);
                                           on_message(std::move(down));
                                         });
                                         if (on_settled) on_settled();
                                         if (!status.ok()) self->stream()->close(status);
                                       },
                                   .on_closed = [self, on_closed](absl::Status why) { on_closed(std::move(why)); }});
    if (cancelled_) stream_->cancel();
  }

  absl::Status send(const InferRequest& request, const SendAs& as) override {
    v1::InferenceUp proto = to_proto(request);
    proto.mutable_infer()->set_budget_us(as.budget.us());
    proto.mutable_infer()->set_revision(digest_bytes(as.revision));
    proto.mutable_infer()->set_by_ticket(as.by_ticket);
    return stream()->send(std::move(proto));
  }
  absl::Status send(const InferRequest& request) override { return stream()->send(to_proto(request)); }
  absl::Status send(const CancelInfer& cancel) override { return stream()->send(to_proto(cancel)); }
  absl::Status send(const ReserveSlot& reserve) override { return stream()->send(to_proto(reserve)); }
  void cork() override { stream()->cork(); }
  void uncork() override { stream()->uncork(); }
  void close() override { stream()->close(); }
  void cancel() override {
    std::shared_ptr<SessionStream> stream;
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      stream = stream_;
    }
    if (stream != nullptr) stream->cancel();
  }

 private:
  // Whatever a peer grants may wait: a request and its cancel for each, beside what is sent to one that grants none.
  void allow(uint32_t credits) { stream()->allow(StreamOptions{}.queue_max + 2 * size_t{credits}); }

  // Messages may come before start() has stored the stream: the lock makes them wait for it.
  std::shared_ptr<Stream<v1::InferenceUp>> stream() {
    const std::lock_guard lock(mutex_);
    return stream_;
  }

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  std::mutex mutex_;
  std::shared_ptr<SessionStream> stream_;
  bool cancelled_ = false;
};

}  // namespace

std::shared_ptr<InferenceSession> InferenceSession::create(const std::string& address, const Identity& identity) {
  return std::make_shared<GrpcInferenceSession>(address, identity);
}

}  // namespace cenote::wire
