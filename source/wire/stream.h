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

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/text.h"
#include "grpcpp/alarm.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/client_callback.h"
#include "grpcpp/support/server_callback.h"
#include "wire/bounds.h"
#include "wire/status.h"

namespace cenote::wire {

inline constexpr Duration kCloseTimeout = Duration::from_seconds(5);

// Messages that have a field `more` of their own kind take with them what waits behind them: of small messages gRPC's cost for each is far
// more than the message's own.
template <typename Message>
concept Mergeable = requires(Message message) { message.add_more(); };

struct StreamOptions {
  std::string peer;              // For messages.
  size_t queue_max = 1024;       // Messages that may wait for the one being written.
  Duration silence_max;          // Ends the stream when no message came for so long, from open() on. 0: keepalive only.
};

// What both sides offer. Thread-safe.
template <typename Out>
class Stream {
 public:
  virtual ~Stream() = default;
  // Errors: kResourceExhausted (queue_max messages wait; the peer does not read), kUnavailable (closed or broken).
  virtual absl::Status send(Out message) = 0;
  // As send(), but replaces a message of the same slot (>= 0) that still waits, at its place in the queue: for snapshots, where only the
  // newest counts. A slot takes one place at most.
  virtual absl::Status send_latest(int slot, Out message) = 0;
  // Idempotent; the first status counts. A client cannot send a status: anything but Ok is a cancel there.
  virtual void close(absl::Status status = absl::OkStatus()) = 0;
  virtual void cancel() = 0;
  // Between the two nothing is begun to be written, so that what is sent goes together. One thread, for as long as it sends.
  virtual void cork() = 0;
  virtual void uncork() = 0;
  virtual size_t queued() const = 0;
};

template <typename In>
struct StreamEvents {
  std::function<void(In&&)> on_message;
  std::function<void(absl::Status)> on_closed;
};

// The queue and the end of a stream, the same on both sides. Internal: use ServerStream and ClientStream.
template <typename In, typename Out>
class StreamCore : public Stream<Out>, public std::enable_shared_from_this<StreamCore<In, Out>> {
 public:
  absl::Status send(Out message) override { return enqueue(-1, std::move(message)); }
  absl::Status send_latest(int slot, Out message) override { return enqueue(slot, std::move(message)); }

  void close(absl::Status status = absl::OkStatus()) override {
    const std::lock_guard lock(mutex_);
    if (closing_ || broken_) return;
    closing_ = true;
    close_status_ = std::move(status);
    if (!writing_ && queue_.empty()) end_writes();
  }

  void cork() override {
    const std::lock_guard lock(mutex_);
    corked_ = true;
  }
  void uncork() override {
    const std::lock_guard lock(mutex_);
    corked_ = false;
    if (!writing_ && !broken_ && !queue_.empty()) write_next();
  }

  void cancel() override {
    {
      const std::lock_guard lock(mutex_);
      if (why_.ok()) why_ = absl::CancelledError(str_cat("stream to ", options_.peer, " was cancelled"));
      queue_.clear();
    }
    try_cancel();
  }

  size_t queued() const override {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }

 protected:
  struct Entry {
    int slot;
    Out message;
  };

  StreamCore(StreamOptions options, StreamEvents<In> events) : options_(std::move(options)), events_(std::move(events)) {}

  // All four with mutex_ held, except try_cancel().
  virtual void start_write(const Out* message, bool more) = 0;
  virtual void end_writes() = 0;  // Everything is written and closing_ is set.
  virtual void on_broken() = 0;   // broken_ became true: no operation will be started any more.
  virtual void start_read(In* message) = 0;
  virtual void try_cancel() = 0;

  void begin() {
    self_ = this->shared_from_this();
    last_message_ns_ = monotonic_now().ns;
    if (options_.silence_max.ns > 0) watch(options_.silence_max);
    start_read(&incoming_);
  }

  absl::Status enqueue(int slot, Out message) {
    const std::lock_guard lock(mutex_);
    if (closing_ || broken_) return absl::UnavailableError(str_cat("stream to ", options_.peer, " is closed"));
    if (slot >= 0) {
      for (Entry& entry : queue_) {
        if (entry.slot != slot) continue;
        entry.message = std::move(message);
        return absl::OkStatus();
      }
    }
    if (queue_.size() >= options_.queue_max) {
      return absl::ResourceExhaustedError(str_cat("stream to ", options_.peer, ": ", queue_.size(),
                                                  " messages wait (queue_max), the peer does not read"));
    }
    queue_.push_back({slot, std::move(message)});
    if (!writing_ && !corked_) write_next();
    return absl::OkStatus();
  }

  void write_next() {
    current_ = std::move(queue_.front().message);
    queue_.pop_front();
    if constexpr (Mergeable<Out>) merge_waiting();
    writing_ = true;
    start_write(&current_, !queue_.empty());
  }

  void merge_waiting() {
    if (queue_.empty()) return;
    size_t bytes = current_.ByteSizeLong();
    for (size_t count = 1; count < kMergedMax && !queue_.empty(); ++count) {
      bytes += queue_.front().message.ByteSizeLong();
      if (bytes > kMergedBytesMax) return;
      *current_.add_more() = std::move(queue_.front().message);
      queue_.pop_front();
    }
  }

  void write_done(bool ok) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    current_.Clear();
    if (!ok || gone_) return break_off();
    if (!queue_.empty()) {
      write_next();
    } else if (closing_) {
      end_writes();
    }
  }

  // mutex_ held.
  void break_off() {
    if (broken_) return;
    broken_ = true;
    queue_.clear();
    on_broken();
  }

  void message_arrived() {
    last_message_ns_.store(monotonic_now().ns, std::memory_order_relaxed);
    events_.on_message(std::move(incoming_));
    incoming_.Clear();
  }

  // Wakes after `in`; ends the stream if it was silent for silence_max, or was asked to close and did not.
  void watch(Duration in) {
    alarm_ = std::make_unique<grpc::Alarm>();
    const auto self = this->shared_from_this();
    alarm_->Set(std::chrono::system_clock::now() + std::chrono::microseconds(in.us() + 1), [self](bool fired) {
      if (fired) self->check_silence();
    });
  }

  void check_silence() {
    bool give_up = false;
    {
      const std::lock_guard lock(mutex_);
      if (done_) return;
      if (ending_) {
        if (why_.ok()) why_ = absl::UnavailableError(str_cat(options_.peer, " did not end its stream within ", kCloseTimeout.ms(), " ms"));
        give_up = true;
      } else {
        const Duration silent = monotonic_now() - Instant{last_message_ns_.load(std::memory_order_relaxed)};
        if (silent < options_.silence_max) {
          watch(options_.silence_max - silent);
        } else {
          if (why_.ok()) why_ = absl::UnavailableError(str_cat(options_.peer, " was silent for ", silent.us() / 1000, " ms"));
          give_up = true;
        }
      }
    }
    if (give_up) try_cancel();
  }

  // The last thing that happens; destroys this unless others hold it.
  void finish(absl::Status status) {
    std::shared_ptr<StreamCore> self;
    StreamEvents<In> events;
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
      broken_ = true;
      queue_.clear();
      if (!why_.ok()) status = why_;
      alarm_.reset();
      self = std::move(self_);
      events = std::move(events_);
    }
    events.on_closed(std::move(status));
  }

  const StreamOptions options_;
  StreamEvents<In> events_;
  mutable std::mutex mutex_;
  std::deque<Entry> queue_;
  Out current_;
  In incoming_;
  bool writing_ = false;   // current_ is gRPC's.
  bool corked_ = false;
  bool closing_ = false;   // close() was called.
  bool ending_ = false;    // end_writes() was.
  bool broken_ = false;    // No operation may be started.
  bool gone_ = false;      // The call is cancelled; break off once no write is under way.
  bool done_ = false;
  absl::Status close_status_;
  absl::Status why_;       // Our own reason for the end, if we had one.
  std::atomic<int64_t> last_message_ns_{0};
  std::unique_ptr<grpc::Alarm> alarm_;
  std::shared_ptr<StreamCore> self_;
};

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
