#include "bin/bench_router_load.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <utility>

#include "base/status.h"
#include "client/client.h"
#include "wire/bare_echo.h"
#include "wire/convert_infer.h"
#include "wire/inference_session.h"

namespace cenote {
namespace {

constexpr Duration kPatience = Duration::from_seconds(10);

// So many outstanding; answered() sends the next until the time is up. Thread-safe.
class ClosedLoop {
 public:
  explicit ClosedLoop(std::function<void(uint32_t slot)> send) : send_(std::move(send)) {}

  LoadResult run(uint32_t outstanding, Duration duration) {
    {
      const std::lock_guard lock(mutex_);
      begun_.assign(outstanding, Instant{});
      left_ = outstanding;
      result_ = {};
      end_ = monotonic_now() + duration;
    }
    const Instant begin = monotonic_now();
    for (uint32_t slot = 0; slot < outstanding; ++slot) next(slot);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return left_ == 0; });
    result_.took = monotonic_now() - begin;
    std::sort(result_.latencies_us.begin(), result_.latencies_us.end());
    return std::move(result_);
  }

  void answered(uint32_t slot, const absl::Status& status) {
    const Instant now = monotonic_now();
    {
      const std::lock_guard lock(mutex_);
      if (status.ok()) {
        result_.latencies_us.push_back(static_cast<float>((now - begun_[slot]).ns) * 1e-3F);
      } else if (result_.failed++ == 0) {
        result_.first_error = std::string(status.message());
      }
      // After a failure its slot rests: a broken way ends its run at once.
      if (now >= end_ || !status.ok()) {
        if (--left_ == 0) changed_.notify_all();
        return;
      }
    }
    next(slot);
  }

 private:
  void next(uint32_t slot) {
    begun_[slot] = monotonic_now();  // Its own until it is answered.
    send_(slot);
  }

  const std::function<void(uint32_t)> send_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Instant> begun_;
  uint32_t left_ = 0;
  LoadResult result_;
  Instant end_;
};

// Straight to an executor, as a router asks it. A slot's number is in its requests' ids.
class ExecutorLoad {
 public:
  ExecutorLoad(const BenchRouterOptions& options, const wire::Identity& identity, InferRequest request, const Digest& revision)
      : request_(std::move(request)), revision_(revision), session_(wire::InferenceSession::create(options.executor, identity)) {
    session_->start({.on_message = [this](wire::InferDown down) { said(std::move(down)); },
                     .on_closed = [this](const absl::Status& why) { closed_.set_value(why); }});
  }
  ~ExecutorLoad() {
    session_->cancel();
    closed_.get_future().wait();
  }

  absl::Status wait_welcome() {
    if (welcome_.get_future().wait_for(std::chrono::nanoseconds(kPatience.ns)) == std::future_status::ready) return absl::OkStatus();
    return absl::UnavailableError(str_cat("the executor did not welcome us within ", kPatience.ms(), " ms"));
  }
  LoadResult run(uint32_t outstanding, Duration duration) { return loop_.run(outstanding, duration); }

 private:
  void send(uint32_t slot) {
    InferRequest request = request_;
    request.id = {.high = random_ + ++count_, .low = slot};
    if (const absl::Status status = session_->send(request, {.budget = kPatience, .revision = revision_}); !status.ok()) loop_.answered(slot, status);
  }
  void said(wire::InferDown down) {
    if (std::holds_alternative<wire::Welcome>(down)) return welcome_.set_value();
    if (const auto* reply = std::get_if<InferReply>(&down)) loop_.answered(static_cast<uint32_t>(reply->id.low), reply->status);
  }

  const InferRequest request_;
  const Digest revision_;
  const uint64_t random_ = random_u64();
  std::atomic<uint64_t> count_{0};
  ClosedLoop loop_{[this](uint32_t slot) { send(slot); }};
  std::promise<void> welcome_;
  std::promise<absl::Status> closed_;
  std::shared_ptr<wire::InferenceSession> session_;
};

// Replies come in order, so who is answered is who has waited longest.
class BareLoad {
 public:
  BareLoad(const std::string& relay, const wire::Identity& identity, size_t request_bytes)
      : client_(wire::BareClient::open(relay, identity, request_bytes, [this] { answered(); })) {}
  LoadResult run(uint32_t outstanding, Duration duration) { return loop_.run(outstanding, duration); }

 private:
  void send(uint32_t slot) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(slot);
    client_->send();
  }
  void answered() {
    uint32_t slot = 0;
    {
      const std::lock_guard lock(mutex_);
      slot = waiting_.front();
      waiting_.pop_front();
    }
    loop_.answered(slot, absl::OkStatus());
  }

  std::mutex mutex_;
  std::deque<uint32_t> waiting_;
  ClosedLoop loop_{[this](uint32_t slot) { send(slot); }};
  std::unique_ptr<wire::BareClient> client_;
};

// Sessions that only wait. Thread-safe.
class IdleSessions {
 public:
  ~IdleSessions() { shrink(0); }

  uint32_t resize(const std::string& router, const wire::Identity& identity, uint32_t count, Duration patience, std::string* why) {
    shrink(count);
    while (sessions_.size() < count) {
      const auto one = std::make_shared<One>();
      one->session = wire::InferenceSession::create(router, identity);
      {
        const std::lock_guard lock(mutex_);
        ++open_;
      }
      one->session->start({.on_message = [this, one = one.get()](const wire::InferDown& down) { said(*one, std::holds_alternative<wire::Welcome>(down)); },
                           .on_closed = [this, one](const absl::Status& status) { closed(*one, status); }});
      sessions_.push_back(one);
      if (sessions_.size() % kAtOnce == 0 && !settle(patience)) break;
    }
    settle(patience);
    const std::lock_guard lock(mutex_);
    *why = why_;
    return welcomed_;
  }

 private:
  static constexpr size_t kAtOnce = 64;  // Handshakes under way.
  struct One {
    std::shared_ptr<wire::InferenceSession> session;
    bool welcomed = false, closed = false;
  };

  void said(One& one, bool welcome) {
    const std::lock_guard lock(mutex_);
    if (!welcome) return;
    one.welcomed = true;
    ++welcomed_;
    changed_.notify_all();
  }
  void closed(One& one, const absl::Status& status) {
    const std::lock_guard lock(mutex_);
    if (one.welcomed) {
      --welcomed_;
    } else {
      why_ = std::string(status.message());
    }
    one.closed = true;
    --open_;
    changed_.notify_all();
  }
  // Until each was welcomed or refused.
  bool settle(Duration patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::nanoseconds(patience.ns), [this] { return welcomed_ == open_; });
  }
  void shrink(uint32_t count) {
    const uint32_t wanted = std::min<uint32_t>(count, static_cast<uint32_t>(sessions_.size()));
    for (size_t i = wanted; i < sessions_.size(); ++i) sessions_[i]->session->cancel();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return std::all_of(sessions_.begin() + wanted, sessions_.end(), [](const auto& one) { return one->closed; }); });
    lock.unlock();
    sessions_.resize(wanted);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<One>> sessions_;
  uint32_t open_ = 0, welcomed_ = 0;
  std::string why_;
};

class AllWays final : public BenchLoad {
 public:
  AllWays(BenchRouterOptions options, wire::Identity identity) : options_(std::move(options)), identity_(std::move(identity)) {
    request_.model = options_.model;
    request_.inputs.push_back({.name = options_.input, .dtype = DType::kF32, .shape = {1, options_.elements},
                               .bytes = std::string(options_.elements * sizeof(float), '\0')});
    request_.payload_bytes = options_.elements * sizeof(float);
  }

  absl::Status connect() {
    CENOTE_ASSIGN_OR_RETURN(const Digest revision, Digest::from_hex(options_.revision));
    client_ = Client::open({.routers = {options_.router}, .identity = identity_});
    CENOTE_ASSIGN_OR_RETURN(InferReply reply, client_->infer(request_, kPatience));
    reply_bytes_ = wire::to_proto(wire::InferDown(std::move(reply))).ByteSizeLong();
    InferRequest sent = request_;
    sent.id = new_request_id();
    sent.budget = kPatience;
    request_bytes_ = wire::to_proto(sent).ByteSizeLong();
    executor_ = std::make_unique<ExecutorLoad>(options_, identity_, request_, revision);
    return executor_->wait_welcome();
  }

  LoadResult through_router(uint32_t outstanding, Duration duration) override { return loop_.run(outstanding, duration); }
  LoadResult to_executor(uint32_t outstanding, Duration duration) override { return executor_->run(outstanding, duration); }
  uint32_t hold_idle(uint32_t sessions, Duration patience, std::string* why) override {
    return idle_.resize(options_.router, identity_, sessions, patience, why);
  }
  LoadResult through_bare(const std::string& relay, uint32_t outstanding, Duration duration) override {
    std::unique_ptr<BareLoad>& bare = bare_[relay];
    if (bare == nullptr) bare = std::make_unique<BareLoad>(relay, identity_, request_bytes_);
    return bare->run(outstanding, duration);
  }
  size_t request_bytes() const override { return request_bytes_; }
  size_t reply_bytes() const override { return reply_bytes_; }

 private:
  void send(uint32_t slot) {
    client_->infer(request_, kPatience, [this, slot](const absl::StatusOr<InferReply>& reply) { loop_.answered(slot, reply.status()); });
  }

  const BenchRouterOptions options_;
  const wire::Identity identity_;
  InferRequest request_;
  size_t request_bytes_ = 0;
  size_t reply_bytes_ = 0;
  ClosedLoop loop_{[this](uint32_t slot) { send(slot); }};
  std::unique_ptr<Client> client_;
  std::unique_ptr<ExecutorLoad> executor_;
  std::map<std::string, std::unique_ptr<BareLoad>> bare_;  // By address.
  IdleSessions idle_;
};

}  // namespace

double LoadResult::percentile_us(double fraction) const {
  if (latencies_us.empty()) return 0;
  return latencies_us[static_cast<size_t>(static_cast<double>(latencies_us.size() - 1) * fraction)];
}

absl::StatusOr<std::unique_ptr<BenchLoad>> BenchLoad::open(BenchRouterOptions options) {
  CENOTE_ASSIGN_OR_RETURN(wire::Identity identity, wire::load_node_identity(options.state_directory + "/certificates"));
  auto load = std::make_unique<AllWays>(std::move(options), std::move(identity));
  CENOTE_RETURN_IF_ERROR(load->connect());
  return load;
}

}  // namespace cenote
