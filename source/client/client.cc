#include "client/client.h"

#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "base/units.h"
#include "node/client.h"
#include "wire/inference_session.h"

namespace cenote {
namespace {

using node::ClientEvent;

// A router's link is reopened this long after its end.
constexpr Duration kReconnectAfter = Duration::from_ms(50);
constexpr Duration kReconnectAfterMax = Duration::from_ms(1'000);
constexpr size_t kReplySizesMax = 1024;

uint64_t payload_of(const std::vector<Tensor>& tensors) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += tensor.bytes.size();
  return bytes;
}

absl::Status check_request(const InferRequest& request) {
  for (const Tensor& tensor : request.inputs) CENOTE_RETURN_IF_ERROR(check_tensor(tensor));
  if (const uint64_t bytes = payload_of(request.inputs); bytes > kPayloadBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("inputs: ", format_bytes(bytes), " together, a request may carry ",
                                                   format_bytes(kPayloadBytesMax), "; send smaller batches"));
  }
  return absl::OkStatus();
}

// The request without its tensors' bytes: what a router needs to give a ticket.
InferRequest header_of(const InferRequest& request) {
  InferRequest header;
  header.id = request.id;
  header.model = request.model;
  header.revision = request.revision;
  header.payload_bytes = request.payload_bytes;
  header.by_ticket = true;
  for (const Tensor& tensor : request.inputs) header.inputs.push_back({tensor.name, tensor.dtype, tensor.shape, ""});
  return header;
}

class SessionClient final : public Client {
 public:
  explicit SessionClient(ClientOptions options)
      : options_(std::move(options)), keeper_(options_.routers.size()), routers_(options_.routers.size()) {
    for (Link& router : routers_) router.reopen_at = Instant{0};
    timer_ = std::thread([this] { run_timer(); });
  }

  ~SessionClient() override {
    std::vector<ClientEvent> cancels;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const auto& [id, pending] : pending_) cancels.push_back(node::ClientCancel{id});
    }
    step(std::move(cancels));
    changed_.notify_all();
    timer_.join();  // No deadline: it was told to stop.
    std::unique_lock lock(mutex_);
    std::vector<std::shared_ptr<wire::InferenceSession>> sessions;
    for (Link& router : routers_) sessions.push_back(router.session);
    for (auto& [address, link] : executors_) sessions.push_back(link.session);
    lock.unlock();
    for (const auto& session : sessions) {
      if (session != nullptr) session->cancel();
    }
    lock.lock();
    changed_.wait(lock, [this] { return open_sessions_ == 0; });  // No deadline: they were cancelled.
  }

  RequestId infer(InferRequest request, Duration timeout, Done done) override {
    if (request.id == RequestId{}) request.id = new_request_id();
    const RequestId id = request.id;
    absl::Status status = check_request(request);
    if (status.ok() && timeout.ns <= 0) status = absl::DeadlineExceededError("the deadline had passed when the request was made");
    request.payload_bytes = payload_of(request.inputs);
    node::ClientSubmit submit{id, monotonic_now() + timeout, request.payload_bytes};
    if (status.ok()) {
      const std::lock_guard lock(mutex_);
      if (const auto known = reply_sizes_.find(request.model); known != reply_sizes_.end()) submit.reply_bytes = known->second;
      if (stopping_) status = absl::CancelledError("the client is being closed");
      else if (!pending_.try_emplace(id, Pending{std::make_shared<const InferRequest>(std::move(request)), std::move(done)}).second) {
        status = absl::AlreadyExistsError(absl::StrCat("request ", id.hex(), " is under way already"));
      }
    }
    if (!status.ok()) {
      done(std::move(status));
      return id;
    }
    step({submit});
    return id;
  }

  void cancel(const RequestId& id) override { step({node::ClientCancel{id}}); }

  void expect_reply(const std::string& model, uint64_t bytes) override {
    const std::lock_guard lock(mutex_);
    note_reply_size(model, bytes);
  }

 private:
  struct Pending {
    std::shared_ptr<const InferRequest> request;
    Done done;
    absl::StatusOr<InferReply> reply = absl::UnknownError("");  // Set when one came.
  };
  struct Link {
    std::shared_ptr<wire::InferenceSession> session;  // Null between sessions.
    Instant reopen_at = Instant::infinite_future();
    Duration backoff = kReconnectAfter;
  };
  // What to do once the lock is given back: a send may block on gRPC for a moment, a caller's code for long.
  struct Send {
    std::shared_ptr<wire::InferenceSession> session;
    std::shared_ptr<const InferRequest> request;
    Duration budget;
    Digest revision;
    bool header_only = false;
    bool by_ticket = false;
  };
  struct Finished {
    Done done;
    absl::StatusOr<InferReply> result;
  };
  struct Work {
    std::vector<Send> sends;
    std::vector<std::pair<std::shared_ptr<wire::InferenceSession>, RequestId>> cancels;
    std::vector<std::string> opens;
    std::vector<Finished> finished;
  };

  // `first` happens with the events, under one lock: nothing comes between.
  void step(std::vector<ClientEvent> events, const std::function<void()>& first = [] {}) {
    Work work;
    bool sooner = false;
    {
      const std::lock_guard lock(mutex_);
      first();
      work = step_locked(events);
      sooner = keeper_.next_deadline() < timer_wakes_at_;
    }
    if (sooner) changed_.notify_one();  // Waking the timer for nothing would cost more than a request does here.
    perform(std::move(work));
  }

  Work step_locked(const std::vector<ClientEvent>& events) {
    std::vector<node::ClientAction> actions;
    keeper_.step(monotonic_now(), events, actions);
    Work work;
    for (const auto& action : actions) {
      std::visit([&](const auto& a) { collect(a, work); }, action);
    }
    return work;
  }

  void collect(const node::SendToRouter& a, Work& work) {
    work.sends.push_back({routers_[a.router].session, pending_.at(a.id).request, a.budget, {}, a.header_only, false});
  }
  void collect(const node::OpenExecutor& a, Work& work) {
    if (!executors_.contains(a.address)) work.opens.push_back(a.address);
  }
  void collect(const node::SendToExecutor& a, Work& work) {
    work.sends.push_back({executors_.at(a.address).session, pending_.at(a.id).request, a.budget, a.revision, false, true});
  }
  void collect(const node::CancelAtRouter& a, Work& work) { work.cancels.emplace_back(routers_[a.router].session, a.id); }
  void collect(const node::ClientDone& a, Work& work) {
    const auto it = pending_.find(a.id);
    CENOTE_CHECK(it != pending_.end());
    auto result = a.replied && a.status.ok() ? std::move(it->second.reply) : absl::StatusOr<InferReply>(a.status);
    work.finished.push_back({std::move(it->second.done), std::move(result)});
    pending_.erase(it);
  }

  // A session that takes no message is at its end, or its peer does not read: then it is ended here. on_closed follows either way, and its
  // Down event sends the requests elsewhere.
  static void end_if_full(const absl::Status& sent, wire::InferenceSession& session) {
    if (sent.code() == absl::StatusCode::kResourceExhausted) session.cancel();
  }

  void perform(Work work) {
    for (const std::string& address : work.opens) open_executor(address);
    for (const Send& send : work.sends) {
      if (send.session == nullptr) continue;  // It ended just now: its Down event sends the request elsewhere.
      if (send.header_only) {
        InferRequest header = header_of(*send.request);
        header.budget = send.budget;
        end_if_full(send.session->send(header), *send.session);
      } else {
        end_if_full(send.session->send(*send.request, wire::SendAs{send.budget, send.revision, send.by_ticket}), *send.session);
      }
    }
    for (const auto& [session, id] : work.cancels) {
      if (session != nullptr) end_if_full(session->send(wire::CancelInfer{id}), *session);
    }
    for (Finished& finished : work.finished) finished.done(std::move(finished.result));
  }

  // ---- links -----------------------------------------------------------------------------------------------------------
  void open_router(size_t index) {
    auto session = wire::InferenceSession::create(options_.routers[index], options_.identity);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      routers_[index].session = session;
      routers_[index].reopen_at = Instant::infinite_future();
      ++open_sessions_;
    }
    session->start({.on_message = [this, index](wire::InferDown message) { router_said(index, std::move(message)); },
                    .on_closed = [this, index](absl::Status why) { router_closed(index, std::move(why)); }});
  }

  void router_said(size_t index, wire::InferDown message) {
    if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
      {
        const std::lock_guard lock(mutex_);
        routers_[index].backoff = kReconnectAfter;
      }
      step({node::RouterUp{index, welcome->draining ? 0 : welcome->credits, welcome->beat}});
    } else if (const auto* beat = std::get_if<wire::PeerBeat>(&message)) {
      step({node::RouterBeat{index, beat->next}});
    } else if (const auto* credits = std::get_if<wire::CreditsChanged>(&message)) {
      step({node::RouterCredits{index, credits->draining ? 0 : credits->credits}});
    } else if (auto* ticket = std::get_if<Ticket>(&message)) {
      step({node::TicketCame{index, std::move(*ticket)}});
    } else if (auto* reply = std::get_if<InferReply>(&message)) {
      replied(std::move(*reply), index, {});
    }
  }

  void router_closed(size_t index, absl::Status why) {
    if (why.ok()) why = absl::UnavailableError("it ended the session");
    {
      const std::lock_guard lock(mutex_);
      Link& link = routers_[index];
      link.session = nullptr;
      link.reopen_at = monotonic_now() + link.backoff;
      link.backoff = std::min(link.backoff * 2, kReconnectAfterMax);
    }
    step({node::RouterDown{index, annotate(why, absl::StrCat("router at ", options_.routers[index]))}});
    session_ended();
  }

  void open_executor(const std::string& address) {
    auto session = wire::InferenceSession::create(address, options_.identity);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || !executors_.try_emplace(address, Link{.session = session}).second) return;
      ++open_sessions_;
    }
    session->start({.on_message = [this, address](wire::InferDown message) { executor_said(address, std::move(message)); },
                    .on_closed = [this, address](absl::Status why) { executor_closed(address, std::move(why)); }});
  }

  void executor_said(const std::string& address, wire::InferDown message) {
    if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
      step({node::ExecutorUp{address, welcome->incarnation, welcome->beat}});
    } else if (const auto* beat = std::get_if<wire::PeerBeat>(&message)) {
      step({node::ExecutorBeat{address, beat->next}});
    } else if (auto* reply = std::get_if<InferReply>(&message)) {
      replied(std::move(*reply), SIZE_MAX, address);
    }
  }

  void executor_closed(const std::string& address, absl::Status why) {
    if (why.ok()) why = absl::UnavailableError("it ended the session");
    // In one step: a ticket that comes between would be sent to a session that is no more.
    step({node::ExecutorDown{address, annotate(why, absl::StrCat("executor at ", address))}}, [&] { executors_.erase(address); });
    session_ended();
  }

  void replied(InferReply reply, size_t router, std::string executor) {
    step({node::ReplyCame{reply.id, reply.status, router, std::move(executor)}}, [&] {
      const auto it = pending_.find(reply.id);
      if (it == pending_.end()) return;
      if (reply.status.ok()) note_reply_size(it->second.request->model, payload_of(reply.outputs));
      it->second.reply = std::move(reply);
    });
  }

  // What a model last answered tells how its next answer should travel. mutex_ held.
  void note_reply_size(const std::string& model, uint64_t bytes) {
    if (reply_sizes_.size() >= kReplySizesMax && !reply_sizes_.contains(model)) reply_sizes_.erase(reply_sizes_.begin());
    reply_sizes_[model] = bytes;
  }

  void session_ended() {
    const std::lock_guard lock(mutex_);
    --open_sessions_;
    changed_.notify_all();
  }

  // ---- time ------------------------------------------------------------------------------------------------------------
  void run_timer() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      const Instant now = monotonic_now();
      for (size_t i = 0; i < routers_.size(); ++i) {
        if (routers_[i].reopen_at > now) continue;
        lock.unlock();
        open_router(i);
        lock.lock();
      }
      if (stopping_) return;
      if (keeper_.next_deadline() <= now) {
        Work work = step_locked({});
        lock.unlock();
        perform(std::move(work));
        lock.lock();
        continue;
      }
      Instant next = keeper_.next_deadline();
      for (const Link& router : routers_) next = std::min(next, router.reopen_at);
      timer_wakes_at_ = next;
      if (next == Instant::infinite_future()) {
        changed_.wait(lock);  // No deadline: nothing is pending; what comes wakes it.
      } else {
        changed_.wait_for(lock, std::chrono::nanoseconds((next - monotonic_now()).ns));
      }
      timer_wakes_at_ = Instant{0};  // It is awake, and looks before it sleeps again.
    }
  }

  const ClientOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  node::RequestKeeper keeper_;
  std::map<RequestId, Pending> pending_;
  std::map<std::string, uint64_t> reply_sizes_;  // By model as it was named: bytes of the last reply, or of the one expected.
  std::vector<Link> routers_;
  std::map<std::string, Link> executors_;
  size_t open_sessions_ = 0;
  bool stopping_ = false;
  Instant timer_wakes_at_{0};
  std::thread timer_;
};

}  // namespace

std::unique_ptr<Client> Client::open(ClientOptions options) {
  CENOTE_CHECK(!options.routers.empty());
  return std::make_unique<SessionClient>(std::move(options));
}

absl::StatusOr<InferReply> Client::infer(InferRequest request, Duration timeout, wire::Cancellation* cancellation) {
  std::promise<absl::StatusOr<InferReply>> promise;
  auto future = promise.get_future();
  const RequestId id = infer(std::move(request), timeout, [&](absl::StatusOr<InferReply> reply) { promise.set_value(std::move(reply)); });
  const wire::Cancellation::Scope scope(cancellation, [&] { cancel(id); });
  return future.get();  // No deadline: a request ends by `timeout`.
}

}  // namespace cenote
