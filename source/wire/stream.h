// wire/stream.h - one long-lived bidirectional gRPC stream, as both sides use it: Session, Join and Attach.
//
// gRPC's callback API allows one write at a time, asks its caller to keep each message alive, and leaves it to him when a call may
// be destroyed. A Stream keeps that: send() from any thread queues (bounded) or writes at once; it lives until gRPC is done
// with it, whoever else has let go of it.
//
//   Server:  grpc::ServerBidiReactor<In, Out>* Join(grpc::CallbackServerContext* context) override {
//              auto stream = wire::ServerStream<In, Out>::open(context, {.peer = context->peer()},
//                  {.on_message = [..](In&& message) {..}, .on_closed = [..](absl::Status why) {..}});
//              remember(stream);                    // shared_ptr<Stream<Out>>: send(), send_latest(), close(), cancel()
//              return stream->reactor();
//            }
//   Client:  auto stream = wire::ClientStream<Out, In>::open(
//                [&](grpc::ClientContext* context, auto* reactor) { stub->async()->Join(context, reactor); },
//                {.peer = address, .silence_max = Duration::from_seconds(5)}, {.on_message = .., .on_closed = ..});
//
// Callbacks run on gRPC's threads: on_message one at a time in order, on_closed exactly once and last; neither may block (enqueue for
// your loop). They may call the stream's methods. Nothing is called while the stream's lock is held. To break a cycle of ownership
// it is enough that on_closed came: the callbacks are destroyed after it.
//
// End of a stream: close() sends what is queued, then ends it; the peer's on_closed says Ok or the given status. A client's close()
// that the server does not answer within kCloseTimeout becomes a cancel. cancel() drops what is queued. A dead or silent peer ends the
// stream with kUnavailable: by keepalive (wire/channel.h), or after silence_max without a message.
#pragma once

#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/client_callback.h"
#include "grpcpp/support/server_callback.h"
#include "wire/status.h"
#include "wire/stream_core.h"

namespace cenote::wire {

template <typename In, typename Out>
class ServerStream final : public StreamCore<In, Out>, private grpc::ServerBidiReactor<In, Out> {
 public:
  static std::shared_ptr<ServerStream> open(grpc::CallbackServerContext* context, StreamOptions options, StreamEvents<In> events) {
    std::shared_ptr<ServerStream> stream(new ServerStream(context, std::move(options), std::move(events)));
    stream->begin();
    return stream;
  }
  // A call refused from the first: returns the reactor that says so.
  static grpc::ServerBidiReactor<In, Out>* refuse(grpc::CallbackServerContext* context, const absl::Status& status) {
    auto stream = open(context, {.peer = context->peer()}, {[](In&&) {}, [](absl::Status) {}});
    stream->close(status);
    return stream->reactor();
  }
  grpc::ServerBidiReactor<In, Out>* reactor() { return this; }

 private:
  using Core = StreamCore<In, Out>;
  ServerStream(grpc::CallbackServerContext* context, StreamOptions options, StreamEvents<In> events)
      : Core(std::move(options), std::move(events)), context_(context) {}

  void start_write(const Out* message, bool more) override {
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    this->StartWrite(message, options);
  }
  void start_read(In* message) override { this->StartRead(message); }
  void end_writes() override { finish_call(this->close_status_); }
  void on_broken() override { finish_call(absl::UnavailableError("stream broke")); }
  // Not after OnDone: the context is gone then.
  void try_cancel() override {
    const std::lock_guard lock(this->mutex_);
    if (!this->done_) context_->TryCancel();
  }

  void finish_call(const absl::Status& status) {
    if (this->ending_) return;
    this->ending_ = true;
    this->Finish(to_grpc(status));
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      this->message_arrived();
      const std::lock_guard lock(this->mutex_);
      if (!this->ending_) this->start_read(&this->incoming_);
      return;
    }
    if (!context_->IsCancelled()) return this->close(absl::OkStatus());  // The peer said all it had to say.
    OnCancel();
  }
  void OnWriteDone(bool ok) override { this->write_done(ok); }
  void OnCancel() override {
    const std::lock_guard lock(this->mutex_);
    this->gone_ = true;
    if (!this->writing_) this->break_off();  // Else write_done() does.
  }
  void OnDone() override {
    const bool lost = context_->IsCancelled() && this->close_status_.ok();
    this->finish(lost ? absl::UnavailableError(this->options_.peer + " is gone") : this->close_status_);
  }

  grpc::CallbackServerContext* const context_;
};

template <typename Out, typename In>
class ClientStream final : public StreamCore<In, Out>, private grpc::ClientBidiReactor<Out, In> {
 public:
  // start(context, reactor) makes the call on a stub.
  template <typename Start>
  static std::shared_ptr<ClientStream> open(Start&& start, StreamOptions options, StreamEvents<In> events) {
    std::shared_ptr<ClientStream> stream(new ClientStream(std::move(options), std::move(events)));
    start(&stream->context_, static_cast<grpc::ClientBidiReactor<Out, In>*>(stream.get()));
    stream->AddHold();  // send() starts writes outside of reactions.
    stream->begin();
    stream->StartCall();
    return stream;
  }

 private:
  using Core = StreamCore<In, Out>;
  ClientStream(StreamOptions options, StreamEvents<In> events) : Core(std::move(options), std::move(events)) {}

  void start_write(const Out* message, bool more) override {
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    this->StartWrite(message, options);
  }
  void start_read(In* message) override { this->StartRead(message); }
  void end_writes() override {
    if (this->ending_) return;
    this->ending_ = true;
    if (!this->close_status_.ok()) {
      if (this->why_.ok()) this->why_ = this->close_status_;
      context_.TryCancel();
      return;
    }
    this->StartWritesDone();
    this->watch(kCloseTimeout);
  }
  void on_broken() override { this->RemoveHold(); }
  void try_cancel() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (ok) this->message_arrived();
    const std::lock_guard lock(this->mutex_);
    if (ok && !this->broken_) {
      this->start_read(&this->incoming_);
    } else {
      this->break_off();
    }
  }
  void OnWriteDone(bool ok) override { this->write_done(ok); }
  void OnDone(const grpc::Status& status) override { this->finish(from_grpc(status, this->options_.peer)); }

  grpc::ClientContext context_;
};

}  // namespace cenote::wire
