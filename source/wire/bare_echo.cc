#include "wire/bare_echo.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "base/status.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/client_callback.h"
#include "wire/bulk_arguments.h"
#include "wire/channel.h"
#include "wire/grpc_log.h"

namespace cenote::wire {
namespace {

// Of a stream; a benchmark takes minutes.
constexpr auto kLife = std::chrono::hours(24);

using grpc::ByteBuffer;
using OnMessage = std::function<void(ByteBuffer&&)>;

ByteBuffer message_of(size_t bytes) {
  const grpc::Slice slice{std::string(bytes, 'x')};
  return ByteBuffer(&slice, 1);
}

// One write at a time, the others wait; a write behind which more wait need not be flushed. mutex_ guards everything.
template <typename Reactor>
class Writer {
 public:
  explicit Writer(Reactor& reactor) : reactor_(reactor) {}
  void send(ByteBuffer message) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    waiting_.push_back(std::move(message));
    if (!writing_) next();
  }
  void done(bool ok) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) ended_ = true;
    if (!ended_ && !waiting_.empty()) next();
  }
  // False: it had ended before.
  bool end() {
    const std::lock_guard lock(mutex_);
    return !std::exchange(ended_, true);
  }

 private:
  void next() {
    current_ = std::move(waiting_.front());
    waiting_.pop_front();
    writing_ = true;
    grpc::WriteOptions options;
    if (!waiting_.empty()) options.set_buffer_hint();
    reactor_.StartWrite(&current_, options);
  }

  Reactor& reactor_;
  std::mutex mutex_;
  std::deque<ByteBuffer> waiting_;
  ByteBuffer current_;
  bool writing_ = false;
  bool ended_ = false;
};

// After close() comes on_done, once and last; only then may it be destroyed, also by on_done itself.
class Call final : private grpc::ClientBidiReactor<ByteBuffer, ByteBuffer> {
 public:
  Call(const std::string& address, const Identity& identity, OnMessage on_message, std::function<void()> on_done)
      : channel_(open_channel(address, channel_credentials(identity))), stub_(channel_), on_message_(std::move(on_message)),
        on_done_(std::move(on_done)) {
    context_.set_deadline(std::chrono::system_clock::now() + kLife);
    stub_.PrepareBidiStreamingCall(&context_, "/cenote.bare/Echo", grpc::StubOptions(), this);
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }
  void send(ByteBuffer message) { writer_.send(std::move(message)); }
  void close() {
    writer_.end();
    context_.TryCancel();
    RemoveHold();
  }

 private:
  friend class Writer<Call>;
  void OnReadDone(bool ok) override {
    if (!ok) return;
    on_message_(std::move(incoming_));
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { writer_.done(ok); }
  void OnDone(const grpc::Status&) override {
    const std::function<void()> on_done = std::move(on_done_);
    on_done();
  }

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  const OnMessage on_message_;
  std::function<void()> on_done_;
  grpc::ClientContext context_;
  ByteBuffer incoming_;
  Writer<Call> writer_{*this};
};

class Session final : public grpc::ServerGenericBidiReactor {
 public:
  Session(const Identity& identity, const BareServer::Options& options) : reply_(message_of(options.reply_bytes)) {
    if (!options.forward_to.empty()) {
      upstream_ = std::make_unique<Call>(
          options.forward_to, identity, [this](ByteBuffer&& reply) { writer_.send(std::move(reply)); }, [this] { delete this; });
    }
    StartRead(&incoming_);
  }

 private:
  friend class Writer<Session>;
  void OnReadDone(bool ok) override {
    if (!ok) return end();
    if (upstream_ != nullptr) {
      upstream_->send(std::move(incoming_));
      incoming_.Clear();
    } else {
      writer_.send(reply_);  // Shares its bytes.
    }
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { writer_.done(ok); }
  void OnCancel() override { end(); }
  void OnDone() override {
    if (upstream_ == nullptr) return delete this;
    upstream_->close();  // Its end is ours.
  }
  void end() {
    if (writer_.end()) Finish(grpc::Status::OK);
  }

  const ByteBuffer reply_;
  ByteBuffer incoming_;
  Writer<Session> writer_{*this};
  std::unique_ptr<Call> upstream_;
};

class EchoServer final : public BareServer, private grpc::CallbackGenericService {
 public:
  EchoServer(const Identity& identity, Options options) : identity_(identity), options_(std::move(options)) {}
  ~EchoServer() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  absl::Status listen() {
    quiet_grpc_log();
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = identity_.authority;
    tls.pem_key_cert_pairs.push_back({identity_.key, identity_.certificate});
    grpc::ServerBuilder builder;
    for (const auto& [name, value] : kBulkArguments) builder.AddChannelArgument(name, value);
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(tls), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) return absl::InternalError("cannot listen on 127.0.0.1");
    return absl::OkStatus();
  }
  std::string address() const override { return format_address("127.0.0.1", static_cast<uint16_t>(port_)); }

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override { return new Session(identity_, options_); }

  const Identity identity_;
  const Options options_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class EchoClient final : public BareClient {
 public:
  EchoClient(const std::string& address, const Identity& identity, size_t message_bytes, std::function<void()> on_reply)
      : message_(message_of(message_bytes)),
        call_(
            address, identity, [on_reply = std::move(on_reply)](ByteBuffer&&) { on_reply(); }, [this] { ended(); }) {}
  ~EchoClient() override {
    call_.close();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_; });  // No deadline: it was cancelled.
  }
  void send() override { call_.send(message_); }

 private:
  void ended() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  const ByteBuffer message_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  Call call_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BareServer>> BareServer::start(const Identity& identity, Options options) {
  auto server = std::make_unique<EchoServer>(identity, std::move(options));
  CENOTE_RETURN_IF_ERROR(server->listen());
  return server;
}

std::unique_ptr<BareClient> BareClient::open(const std::string& address, const Identity& identity, size_t message_bytes,
                                             std::function<void()> on_reply) {
  return std::make_unique<EchoClient>(address, identity, message_bytes, std::move(on_reply));
}

}  // namespace cenote::wire
