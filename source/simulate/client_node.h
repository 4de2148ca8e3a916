// simulate/client_node.h - node/client.h in a place of the simulator, joined as client/client.cc joins it: sessions to all routers, and to
// executors that tickets name.
#pragma once

#include <optional>

#include "node/client.h"
#include "simulate/session.h"
#include "simulate/truth.h"

namespace cenote::simulate {

class ClientNode final : public Process {
 public:
  ClientNode(Network& network, PlaceId place, Incarnation incarnation, std::vector<PlaceId> routers, Truth& truth);

  void start() override;
  void run(Instant now) override;
  Instant due() const override { return keeper_.next_deadline(); }

  // What a caller does. The outcome goes to Truth.
  enum class Kind : uint8_t { kAny, kPatient, kMustSucceed };
  void submit(const std::string& model, uint64_t payload_bytes, Duration timeout, Kind kind);
  void cancel_one(uint64_t n);   // Of those under way.
  size_t under_way() const { return keeper_.under_way(); }

 private:
  struct Pending {
    InferRequest request;
    std::optional<InferReply> reply;
  };
  struct Router {
    PlaceId place = 0;
    std::shared_ptr<SessionWire> wire;
    Duration backoff = Duration::from_ms(50);
  };
  void open_router(size_t index);
  void open_executor(const std::string& address);
  void router_said(size_t index, InferDown message);
  void executor_said(const std::string& address, InferDown message);
  void replied(InferReply reply, size_t router, const std::string& executor);

  void perform(node::SendToRouter& action);
  void perform(node::OpenExecutor& action) { open_executor(action.address); }
  void perform(node::SendToExecutor& action);
  void perform(node::CancelAtRouter& action);
  void perform(node::ClientDone& action);

  Truth& truth_;
  node::RequestKeeper keeper_;
  std::vector<node::ClientEvent> inputs_;
  std::map<RequestId, Pending> pending_;
  std::map<std::string, uint64_t> reply_sizes_;
  std::vector<Router> routers_;
  std::map<std::string, std::shared_ptr<SessionWire>> executors_;
};

}  // namespace cenote::simulate
