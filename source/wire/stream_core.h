// wire/stream_core.h - what both ends of a wire/stream.h have: a queue, one write at a time, and an end. Include stream.h.
//
// Memory of a peer that does not read: what waits, at most queue_max messages and queue_bytes_max bytes, and one message that is being
// written; gRPC adds a flow-control window. Streams that share a Backlog add what waits in them to it, so that their owner can end the
// worst of them when it becomes too much.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "grpcpp/alarm.h"
#include "wire/bounds.h"

namespace cenote::wire {

inline constexpr Duration kCloseTimeout = Duration::from_seconds(5);

// Messages that have a field `more` of their own kind take with them what waits behind them: of small messages gRPC's cost for each is far
// more than the message's own.
template <typename Message>
concept Mergeable = requires(Message message) { message.add_more(); };

// Bytes that wait in several streams.
using Backlog = std::atomic<uint64_t>;

struct StreamOptions {
  std::string peer;              // For messages.
  size_t queue_max = 1024;       // Messages that may wait for the one being written (allow() gives another number),
  uint64_t queue_bytes_max = UINT64_MAX;  // and their bytes; one always may.
  std::shared_ptr<Backlog> backlog;       // Counts them too; may be null.
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
  virtual void allow(size_t queue_max) = 0;  // From now on, instead of the option.
  virtual size_t queued() const = 0;
  virtual uint64_t queued_bytes() const = 0;
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

  void allow(size_t queue_max) override {
    const std::lock_guard lock(mutex_);
    queue_max_ = queue_max;
  }

  void cancel() override {
    {
      const std::lock_guard lock(mutex_);
      if (why_.ok()) why_ = absl::CancelledError(str_cat("stream to ", options_.peer, " was cancelled"));
      drop_queue();
    }
    try_cancel();
  }

  size_t queued() const override {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }
  uint64_t queued_bytes() const override {
    const std::lock_guard lock(mutex_);
    return queued_bytes_;
  }

 protected:
  struct Entry {
    int slot;
    Out message;
    uint64_t bytes;
  };

  StreamCore(StreamOptions options, StreamEvents<In> events)
      : options_(std::move(options)), events_(std::move(events)), queue_max_(options_.queue_max) {}

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
        count(-static_cast<int64_t>(std::exchange(entry.bytes, message.ByteSizeLong())));
        count(static_cast<int64_t>(entry.bytes));
        entry.message = std::move(message);
        return absl::OkStatus();
      }
    }
    if (queue_.size() >= queue_max_) {
      return absl::ResourceExhaustedError(str_cat("stream to ", options_.peer, ": ", queue_.size(),
                                                  " messages wait (queue_max), the peer does not read"));
    }
    const uint64_t bytes = message.ByteSizeLong();
    if (!queue_.empty() && queued_bytes_ + bytes > options_.queue_bytes_max) {
      return absl::ResourceExhaustedError(str_cat("stream to ", options_.peer, ": ", format_bytes(queued_bytes_), " wait, at most ",
                                                  format_bytes(options_.queue_bytes_max), " may; the peer does not read"));
    }
    count(static_cast<int64_t>(bytes));
    queue_.push_back({slot, std::move(message), bytes});
    if (!writing_ && !corked_) write_next();
    return absl::OkStatus();
  }

  void write_next() {
    uint64_t bytes = queue_.front().bytes;
    take_front(&current_);
    if constexpr (Mergeable<Out>) {
      for (size_t merged = 1; merged < kMergedMax && !queue_.empty(); ++merged) {
        bytes += queue_.front().bytes;
        if (bytes > kMergedBytesMax) break;
        take_front(current_.add_more());
      }
    }
    writing_ = true;
    start_write(&current_, !queue_.empty());
  }

  void take_front(Out* target) {
    *target = std::move(queue_.front().message);
    count(-static_cast<int64_t>(queue_.front().bytes));
    queue_.pop_front();
  }
  void count(int64_t bytes) {
    queued_bytes_ += bytes;
    if (options_.backlog != nullptr) *options_.backlog += bytes;
  }
  void drop_queue() {
    queue_.clear();
    count(-static_cast<int64_t>(queued_bytes_));
  }

  void write_done(bool ok) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    current_.Clear();
    if (!ok || gone_) return break_off();
    if (!queue_.empty()) {
      if (!corked_) write_next();
    } else if (closing_) {
      end_writes();
    }
  }

  // mutex_ held.
  void break_off() {
    if (broken_) return;
    broken_ = true;
    drop_queue();
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
      drop_queue();
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
  size_t queue_max_;
  std::deque<Entry> queue_;
  uint64_t queued_bytes_ = 0;
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

}  // namespace cenote::wire
