// Goal: whatever members, deployers and operators say, in whatever order, the controller answers each call once, never drops a block that
// a revision needs, and its catalogue is what its store acknowledged.
// Input: fuzz::Script. Appends are acknowledged at once, but for those that a record makes fail.
#include <array>
#include <set>

#include "node/controller.h"
#include "script.h"

namespace cenote {
namespace {

using namespace node;
using fuzz::Record;

class World final : fuzz::Surroundings<ControllerEvent> {
 public:
  World() : controller_(options(), Catalogue(), now_) {}

  void play(const Record& record) {
    if (auto event = event_of(record)) feed(*std::move(event));
  }
  // Long enough for every lease, deadline and retry.
  void end() {
    for (int i = 0; i < 8; ++i) pass(Duration::from_ms(10'000));
    for (StreamId& stream : streams_) feed(StreamEnded{stream});
    pass(Duration::from_ms(5'000));
    CENOTE_CHECK(open_.empty());
    Catalogue replayed;
    for (const CatalogueEvent& event : stored_) CENOTE_CHECK(replayed.apply(event).ok());
    CENOTE_CHECK(replayed.fingerprint() == controller_.catalogue().fingerprint());
  }

 private:
  static ControllerOptions options() {
    ControllerOptions options{.cluster = "fuzz", .deploy_lease = Duration::from_ms(20'000), .replicas = 2};
    options.tenants["vision"] = {.pool_bytes_max = 400'000, .models_max = 2};
    options.device_models["agent-0/host:0"] = {"a"};
    return options;
  }

  static Caller caller(uint8_t who) {
    Caller caller{.role = who % 3 == 0 ? CallerRole::kOperator : CallerRole::kDeployer, .subject = "someone"};
    if (who % 3 == 2) caller.tenant = "vision";
    return caller;
  }
  CallId call() {
    open_.insert(next_call_);
    return next_call_++;
  }
  // Of calls that carry little: the first byte is a length, what follows a model and a tag.
  static std::pair<std::string, std::string> names(const Record& record) {
    const size_t length = record.bytes.empty() ? 0 : static_cast<uint8_t>(record.bytes[0]);
    const std::string rest = record.bytes.substr(std::min<size_t>(1, record.bytes.size()));
    return {rest.substr(0, length), length < rest.size() ? rest.substr(length) : ""};
  }
  // Sixteen bytes or none, as the wire has it; few, so that changes are asked for again.
  static std::string operation(const Record& record) { return record.who < 128 ? "" : std::string(16, static_cast<char>('a' + record.who % 4)); }

  std::optional<ControllerEvent> event_of(const Record& record) {
    StreamId& stream = streams_[record.who % streams_.size()];
    switch (record.kind % 18) {
      case 0: return reported(record, stream);
      case 1: return StreamEnded{std::exchange(stream, next_stream_++)};
      case 2: return MemberBeat{stream, Duration::from_ms(record.number() % 1'000)};
      case 3: return begin(record);
      case 4: return RenewAsked{call(), deploy(record), caller(record.who)};
      case 5: return commit(record);
      case 6: return AbortAsked{call(), deploy(record), caller(record.who)};
      case 7: return PublishAsked{call(), names(record).first, names(record).second, operation(record), caller(record.who)};
      case 8: return RollbackAsked{call(), names(record).first, operation(record), caller(record.who)};
      case 9: return RemoveAsked{call(), names(record).first, operation(record), caller(record.who)};
      case 10: return EvictAsked{call(), names(record).first};
      case 11: return ModelsAsked{call(), names(record).first, record.who % 2 == 0};
      case 12: return ClusterAsked{call(), {}};
      case 13: return UnclaimedAsked{call()};
      case 14: return adopt(record);
      case 15: return HoldDropsAsked{call(), record.who % 2 == 0};
      case 16: return MemberDrainAsked{call(), names(record).first};
      case 17:
        fail_appends_ = record.who % 8 == 7;
        pass(Duration::from_ms(static_cast<int64_t>(record.number() % 5'000)));
        return std::nullopt;
    }
    return std::nullopt;
  }

  std::optional<ControllerEvent> reported(const Record& record, StreamId stream) {
    auto report = fuzz::message<v1::MemberReport>(record);
    if (!report) return std::nullopt;
    fuzz::fold(report->held);
    fuzz::fold(report->dropped);
    for (ExecutorReport& executor : report->executors) {
      for (RevisionState& state : executor.revisions) fuzz::fold(state.revision);
    }
    return Reported{stream, *std::move(report)};
  }
  std::optional<ControllerEvent> begin(const Record& record) {
    auto request = fuzz::message<v1::BeginDeployRequest>(record);
    if (!request) return std::nullopt;
    fuzz::fold(request->blocks);
    return BeginAsked{call(), *std::move(request), now_ + Duration::from_ms(3'000), caller(record.who)};
  }
  std::optional<RevisionRecord> record_of(const Record& record) {
    auto found = fuzz::message<v1::RevisionRecord>(record);
    if (found) fuzz::fold(*found);
    return found;
  }
  std::optional<ControllerEvent> commit(const Record& record) {
    auto found = record_of(record);
    if (!found) return std::nullopt;
    return CommitAsked{call(), last_deploy_, *std::move(found), now_ + Duration::from_ms(3'000), operation(record), caller(record.who)};
  }
  std::optional<ControllerEvent> adopt(const Record& record) {
    auto found = record_of(record);
    if (!found) return std::nullopt;
    return AdoptAsked{call(), *std::move(found)};
  }
  uint64_t deploy(const Record& record) const { return record.bytes.empty() ? last_deploy_ : record.number(); }

  void step(std::vector<ControllerEvent> events) override {
    for (int round = 0; round == 0 || !events.empty(); ++round) {
      CENOTE_CHECK(round < 1'000);
      std::vector<ControllerAction> actions;
      controller_.step(now_, std::exchange(events, {}), actions);
      for (ControllerAction& action : actions) std::visit([&](auto& a) { perform(a, events); }, action);
    }
  }

  void perform(AppendEvents& a, std::vector<ControllerEvent>& events) {
    CENOTE_CHECK(!a.events.empty());
    if (fail_appends_) {
      fail_appends_ = false;
      events.push_back(Appended{absl::UnavailableError("the disk is full")});
      return;
    }
    for (const CatalogueEvent& event : a.events) {
      CENOTE_CHECK(check_event(event).ok() && encode_event(event).size() <= kEventBytesMax);
      stored_.push_back(event);
    }
    events.push_back(Appended{});
  }
  void perform(const SendDirective& a, std::vector<ControllerEvent>&) {
    v1::Directive proto;
    wire::to_proto(a.directive, &proto);
    CENOTE_CHECK(wire::from_proto(proto).ok());  // What it says others take.
    if (const auto* memory = std::get_if<MemoryDirective>(&a.directive)) {
      for (const Digest& block : memory->drop) CENOTE_CHECK(controller_.catalogue().references(block) == 0);
    }
  }
  void perform(const RefuseStream&, std::vector<ControllerEvent>&) {}
  void perform(const Say& a, std::vector<ControllerEvent>&) { CENOTE_CHECK(!a.text.empty()); }
  template <typename Result>
  void perform(const Reply<Result>& a, std::vector<ControllerEvent>&) {
    CENOTE_CHECK(open_.erase(a.call) == 1);
    if constexpr (std::is_same_v<Result, absl::StatusOr<DeployPlan>>) {
      if (a.result.ok() && !a.result->done) last_deploy_ = a.result->deploy;
    }
  }

  Controller controller_;
  std::array<StreamId, 6> streams_{1, 2, 3, 4, 5, 6};
  StreamId next_stream_ = 7;
  CallId next_call_ = 1;
  std::set<CallId> open_;
  std::vector<CatalogueEvent> stored_;
  bool fail_appends_ = false;
  uint64_t last_deploy_ = 0;
};

}  // namespace
}  // namespace cenote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cenote::World world;
  return cenote::fuzz::play({data, size}, world);
}
