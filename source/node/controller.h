// node/controller.h - what the controller decides: who is a member, what the catalogue becomes, where blocks go, what every agent,
// router and memory server is told. A state machine: step(now, events) -> actions; no I/O, clock or threads.
//
// - The catalogue changes by events only, and an event is applied only after the store acknowledged it (AppendEvents -> Appended). One
//   append is under way at a time; what else wants to change the catalogue waits its turn and is planned against the newest state.
// - Replicas are what memory servers report themselves. Reads go by replicas of servers that are live and whose inventory is known.
// - A deploy is a lease: it keeps its blocks from being dropped, and vanishes if it is neither committed nor renewed. A block that no
//   revision needs and no deploy holds is dropped from its servers. A new deploy that needs a block which is just being dropped waits
//   until that is done, so that no block is sealed before and dropped after.
// - Evicted revisions are not prefetched again until they are deployed or published anew; requests still bring them.
// - A change that names its operation is made once: its answer is stored with it, and given again to who asks again (whoever lost the
//   answer with the controller that gave it).
// - Nothing is dropped that a lost catalogue may have needed. Each memory server remembers which catalogue (lineage, and how many events
//   it had) its blocks came under. One that comes with blocks of another, or of a later state of this one, makes the catalogue hold: no
//   drops at all until an operator has decided (Adopt, HoldDrops). A server learns of this catalogue only after the hold is stored.
// - After a start, agents and routers hear nothing until every expected member has joined or member_timeout has passed: they go on with
//   what the last controller said instead of being told of an empty cluster.
//
// - A block that revisions need has `replicas` replicas, or as many as there are servers: what is missing is copied from server to server
//   (policy/repair.h), what is too many is dropped. A lost server's blocks are given time to come back with it. A memory server that an
//   operator drains leaves when others hold what it held.
//
// - A name belongs to the tenant of the deployer who deployed it first; only deployers of that tenant, and operators, change it. What a
//   tenant's models and its deploys under way need counts against its limits, when a deploy begins and again when it is committed.
//
// Each call is answered by exactly one reply action.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/suspicion.h"
#include "catalog/catalogue.h"
#include "message/caller.h"
#include "message/control.h"
#include "node/repair_index.h"
#include "policy/assign.h"
#include "policy/health.h"
#include "policy/place.h"
#include "policy/repair.h"

namespace cenote::node {

struct ControllerOptions {
  std::string cluster;
  Duration member_timeout = Duration::from_ms(2'000);
  Duration deploy_lease = Duration::from_ms(60'000);
  PlacementPolicy placement = PlacementPolicy::kHybrid;
  uint32_t replicas = 1;
  Duration repair_after = Duration::from_ms(10'000);               // So long a lost server may take to come back with its blocks.
  uint64_t group_bytes = 8 << 20;
  policy::HealthLimits health;                                     // When a memory server is asked last.
  std::map<std::string, std::string> failure_domains;              // Memory server -> domain; absent: its own.
  std::map<std::string, std::vector<std::string>> device_models;   // "agent-0/host:0" -> names; absent: all.
  std::map<std::string, std::vector<std::string>> agent_devices;   // "agent-0" -> "host:0", ...; absent: as it reports.
  std::set<std::string> expected;                                  // Names of members that a start waits for.
  uint64_t events_stored = 0;                                      // Sequence of the store's last event.
  uint64_t fresh_lineage = 1;                                      // Random; taken when the catalogue has none, or is an older one put back.
  // What tenants may take of the pool; a limit of 0 is none. Empty: nobody named a tenant, and deployers of any may deploy.
  struct TenantLimits { uint64_t pool_bytes_max = 0; uint64_t models_max = 0; };
  std::map<std::string, TenantLimits> tenants;
  uint64_t first_version = 1;                                      // Of assignments and views: rises from one start to the next.
};

using CallId = uint64_t;
using StreamId = uint64_t;  // Never used twice.

// ---- events -------------------------------------------------------------------------------------------------------------
struct Reported { StreamId stream = 0; MemberReport report; };  // The first of a stream is its join.
struct StreamEnded { StreamId stream = 0; };
struct MemberBeat { StreamId stream = 0; Duration next; };      // It lives, and says so again within `next`.
struct Appended { absl::Status status; };                       // Answers AppendEvents.
struct BeginAsked { CallId call = 0; DeployRequest request; Instant deadline; Caller caller = {}; };
struct RenewAsked { CallId call = 0; uint64_t deploy = 0; Caller caller = {}; };
struct CommitAsked { CallId call = 0; uint64_t deploy = 0; RevisionRecord record; Instant deadline; std::string operation; Caller caller = {}; };
struct AbortAsked { CallId call = 0; uint64_t deploy = 0; Caller caller = {}; };
struct PublishAsked { CallId call = 0; std::string model; std::string tag; std::string operation; Caller caller = {}; };
struct RollbackAsked { CallId call = 0; std::string model; std::string operation; Caller caller = {}; };
struct RemoveAsked { CallId call = 0; std::string model; std::string operation; Caller caller = {}; };
struct EvictAsked { CallId call = 0; std::string model; };
struct ModelsAsked { CallId call = 0; std::string model; bool blocks = false; };
struct ClusterAsked { CallId call = 0; MemberReport self; };
struct UnclaimedAsked { CallId call = 0; };
struct AdoptAsked { CallId call = 0; RevisionRecord record; };
struct HoldDropsAsked { CallId call = 0; bool hold = false; };
struct MemberDrainAsked { CallId call = 0; std::string member; };
using ControllerEvent = std::variant<Reported, StreamEnded, MemberBeat, Appended, BeginAsked, RenewAsked, CommitAsked, AbortAsked, PublishAsked,
                                     RollbackAsked, RemoveAsked, EvictAsked, ModelsAsked, ClusterAsked, UnclaimedAsked, AdoptAsked, HoldDropsAsked,
                                     MemberDrainAsked>;

// ---- actions ------------------------------------------------------------------------------------------------------------
struct AppendEvents { std::vector<CatalogueEvent> events; };              // All or none; answer: Appended.
struct SendDirective { StreamId stream = 0; Directive directive; };       // A newer one of the same kind may replace it.
struct RefuseStream { StreamId stream = 0; absl::Status status; };        // Send Refused, then end it.
struct Say { bool warning = false; std::string text; };                   // For the log.
template <typename Result>
struct Reply { CallId call = 0; Result result; };
using PlanReply = Reply<absl::StatusOr<DeployPlan>>;
using CommitReply = Reply<absl::StatusOr<DeployResult>>;
using TagMoveReply = Reply<absl::StatusOr<TagMove>>;
using RemovalReply = Reply<absl::StatusOr<Removal>>;
using ModelsReply = Reply<absl::StatusOr<std::vector<ModelInfo>>>;
using ClusterReply = Reply<absl::StatusOr<ClusterStatus>>;
using UnclaimedReply = Reply<absl::StatusOr<Unclaimed>>;
using DoneReply = Reply<absl::Status>;                                    // Renew, abort, evict, hold, drain.
using ControllerAction = std::variant<AppendEvents, SendDirective, RefuseStream, Say, PlanReply, CommitReply, TagMoveReply,
                                      RemovalReply, ModelsReply, ClusterReply, UnclaimedReply, DoneReply>;

class Controller {
 public:
  // `catalogue`: as the store's events make it.
  Controller(ControllerOptions options, Catalogue catalogue, Instant now);
  Controller(const Controller&) = delete;  // Pending work refers to it.
  Controller& operator=(const Controller&) = delete;

  // Appends to `actions`. Instants must not go backwards.
  void step(Instant now, std::span<const ControllerEvent> events, std::vector<ControllerAction>& actions);
  Instant next_deadline() const;
  const Catalogue& catalogue() const { return catalogue_; }
  uint64_t suspected() const { return suspected_; }               // So far.
  StallCount stalls() const { return silence_.stalls(); }

  static constexpr Duration kBeatInterval = Duration::from_ms(1'000);   // Every member hears at least so often.
  static constexpr Duration kEvictRepeated = Duration::from_ms(2'000);  // Evictions ride on every assignment for so long.
  static constexpr Duration kInventoryRetry = Duration::from_ms(1'000);
  static constexpr Duration kRepairRound = Duration::from_ms(20);       // Repair looks around at most so often,
  static constexpr size_t kJudgedPerRound = 4096;                       // and at so many blocks: some milliseconds.
  static constexpr Duration kFreshFor = Duration::from_ms(1'000);       // Replicas of what was just deployed may still be on their way.
  static constexpr Duration kSurplusAfter = Duration::from_ms(10'000);  // So long replicas too many must have been there before one goes.
  static constexpr Duration kCopyMax = Duration::from_ms(300'000);      // A copy of which nothing is heard for so long has failed.
  static constexpr Duration kLeaveStalled = Duration::from_ms(10'000);  // A server that is to leave does, if no copy ended for so long,
  static constexpr Duration kCopyStalled = Duration::from_ms(50'000);   // or so much longer while one is under way: it may try three sources.
  // An assignment is as long as the catalogue: copies that end one by one share one, and the larger the catalogue the more rarely it is made, up to a
  // limit; agents go on reading the replicas they know of. In one step as many agents are told as this many blocks allow, at least one.
  static constexpr Duration kReplicaNews = Duration::from_ms(250);
  static constexpr Duration kReplicaNewsMax = Duration::from_ms(30'000);
  static constexpr Duration kReplicaNewsPerBlock = Duration::from_us(40);  // And agent.
  static constexpr size_t kToldPerStep = 1 << 14;
  static constexpr size_t kChecksMax = 4096;     // Of one server, at once.
  static constexpr Duration kHealthRound = Duration::from_ms(1'000);
  static constexpr size_t kDeploysMax = 256;
  static constexpr size_t kPendingMax = 4096;    // Changes that wait for their turn.
  static constexpr size_t kMembersMax = 4096;

 private:
  using Actions = std::vector<ControllerAction>;
  using Events = std::vector<CatalogueEvent>;

  // What a memory server said and the catalogue does not know yet.
  struct ReplicaDelta {
    bool queued = false;
    bool whole = false;                                     // `changes` is all it holds.
    std::map<Digest, std::optional<uint32_t>> changes;      // Size, or gone.
  };
  struct Member {
    MemberReport report;               // The last, without its block lists.
    StreamId stream = 0;               // 0: none; reports come no more.
    Instant last_seen;
    Instant last_told;
    bool inventoried = false;          // Memory servers: this incarnation said all it holds, and the catalogue knows.
    Instant ask_inventory = Instant::infinite_future();
    ReplicaDelta delta;
    std::set<Digest> dropping;         // Told to drop, not yet confirmed.
    bool dropping_changed = false;
    bool copies_changed = false;       // What it is to copy or to check.
    std::set<Digest> checking;         // Told to check, not yet said to be done.
    bool lineage_judged = false;       // Memory servers: what its blocks came under was looked at on this stream,
    bool lineage_known = false;        // and what came of it is stored: it may hear of this catalogue.
    uint64_t told_lineage = 0;         // On this stream.
    uint64_t told_sequence = 0;
    uint64_t directive_version = 0;
    uint64_t suspects_told = 0;        // Of suspects_version_.
    uint64_t news_told = 0;            // Of news_.
    std::optional<Assignment> assignment;  // As last sent on this stream.
    std::optional<ClusterView> view;
  };
  struct Deploy {
    DeployRequest request;
    std::set<Digest> blocks;
    std::vector<std::pair<BlockRef, std::string>> planned;  // Block and server it is to be written to.
    std::string tenant;                // Whose limits it counts against, and who may go on with it.
    Instant expires;
    bool committing = false;           // Its end is under way: it does not expire.
  };
  struct Change {
    std::function<absl::StatusOr<Events>()> plan;                        // At its turn.
    std::function<void(const absl::Status&, Actions&)> done;             // Applied (or nothing to do): Ok.
    bool checked = false;  // Its events surely apply. Others are tried on a copy first: what the store has must apply.
  };

  // controller.cc
  void handle(Instant now, const Appended& e, Actions& actions);
  void change(Change change, Actions& actions);
  void pump(Actions& actions);
  void expire(Instant now, Actions& actions);
  void settle(Instant now, Actions& actions);

  // controller_members.cc
  void handle(Instant now, const Reported& e, Actions& actions);
  void handle(Instant now, const StreamEnded& e, Actions& actions);
  void handle(Instant now, const ClusterAsked& e, Actions& actions);
  void handle(Instant now, const MemberDrainAsked& e, Actions& actions);
  bool admit(Instant now, const Reported& e, Actions& actions);
  void note_blocks(Instant now, Member& member, const MemberReport& report, Actions& actions);
  Events plan_replicas(const std::string& server);
  void lose(const std::string& name, const Say& why, Actions& actions);
  bool holds_live(const std::string& server) const;
  size_t live_replicas(const Digest& block) const;

  // controller_notice.cc: a member that is silent for a moment is told of, one that is silent for long is lost.
  void handle(Instant now, const MemberBeat& e, Actions& actions);
  void awake(Instant now);
  void hear(Instant now, const std::string& member, Actions& actions);
  void disconnected(const std::string& member, Actions& actions);
  void notice(Instant now, Actions& actions);
  void suspect(const std::string& member, const char* why, Actions& actions);

  // controller_deploy.cc
  void handle(Instant now, const BeginAsked& e, Actions& actions);
  void handle(Instant now, const RenewAsked& e, Actions& actions);
  void handle(Instant now, const CommitAsked& e, Actions& actions);
  void handle(Instant now, const AbortAsked& e, Actions& actions);
  absl::Status check_begin(const DeployRequest& request, const Caller& caller) const;
  absl::Status check_caches(const DeployRequest& request) const;
  bool may_serve(const std::string& agent, const std::string& model) const;
  bool being_dropped(const DeployRequest& request) const;
  absl::StatusOr<DeployPlan> begin(Instant now, const DeployRequest& request, const Caller& caller);
  absl::Status check_commit(const Deploy& deploy, const RevisionRecord& record) const;
  void check_waiting(Instant now, Actions& actions);
  void commit(CommitAsked ask, Actions& actions);

  // controller_tenants.cc
  std::string tenant_of(const Caller& caller, std::string_view name) const;
  absl::Status check_owner(const Caller& caller, std::string_view name, const char* action) const;
  absl::Status check_deploy_owner(const Caller& caller, uint64_t number, const Deploy& deploy) const;
  absl::Status check_limits(const std::string& tenant, const std::string& name, std::span<const BlockRef> blocks, uint64_t except) const;
  void add_owner(const std::string& tenant, const std::string& name, Events& events) const;
  Catalogue::TenantUse use_of(const std::string& tenant, uint64_t except) const;
  const std::vector<TenantStatus>& tenant_statuses();

  // controller_names.cc
  void handle(Instant now, const PublishAsked& e, Actions& actions);
  void handle(Instant now, const RollbackAsked& e, Actions& actions);
  void handle(Instant now, const RemoveAsked& e, Actions& actions);
  void handle(Instant now, const EvictAsked& e, Actions& actions);
  void handle(Instant now, const ModelsAsked& e, Actions& actions);
  absl::StatusOr<std::vector<std::pair<std::string, Digest>>> named(std::string_view model) const;
  ModelInfo describe(const std::string& name, const Digest& revision, bool blocks) const;

  // controller_operations.cc
  absl::StatusOr<const OperationDone*> answered(const std::string& operation, const Digest& request) const;
  static void answer(const std::string& operation, const Digest& request, const TagMove& move, Events& events);
  Events want_again(const Digest& revision) const;
  uint64_t freed_by(const Events& events) const;

  // controller_lineage.cc
  void begin_lineage(Actions& actions);
  void judge_lineage(Member& member, const std::map<Digest, std::optional<uint32_t>>& held, Events& events);
  bool needed(const Digest& block) const;
  void tell_lineage(Member& member, MemoryDirective& directive) const;
  bool takes_blocks(const Member& member) const;
  void handle(Instant now, const UnclaimedAsked& e, Actions& actions);
  void handle(Instant now, const AdoptAsked& e, Actions& actions);
  void handle(Instant now, const HoldDropsAsked& e, Actions& actions);

  // controller_repair.cc
  void touch(std::span<const CatalogueEvent> events);
  void note_copies(Instant now, const MemberReport& report, Actions& actions);
  void note_doubts(const MemberReport& report, Actions& actions);
  void leave(const std::string& server);
  void repair(Instant now, Actions& actions);
  Instant next_repair() const;
  void judge_servers(Instant now);
  void judge_blocks(Instant now);
  void judge(Instant now, const Digest& id);
  std::vector<uint32_t> holders_of(const Digest& id, bool& dropping) const;
  void cancel_copy(const Digest& id);
  void plan_repair(Instant now, Actions& actions);
  void drop_surplus(Instant now);
  bool doubted(const Digest& id) const;
  bool may_go(const Digest& id, const std::string& from) const;
  void let_leave(Instant now, Actions& actions);
  void fill_copies(const Member& member, MemoryDirective& directive) const;

  // controller_health.cc
  void note_seen(const MemberReport& report);
  void note_corrupt(const MemberReport& before, const MemberReport& now);
  void note_return(const std::string& server);
  policy::ServerSample& sample_of(const std::string& server) { return samples_.back()[server]; }
  void judge_health(Instant now, Actions& actions);
  bool excluded(const std::string& server) const;
  void fill_excluded(ClusterStatus& status) const;

  // controller_directives.cc
  void collect_garbage(Instant now);
  Duration replica_news_every() const;
  bool may_be_told_later(const CatalogueEvent& event) const;
  void tell_members(Instant now, Actions& actions);
  struct News {
    policy::AssignView view;
    std::optional<ClusterView> cluster;  // Made for the first router.
  };
  void tell_news(Instant now, Member& member, News& news, Actions& actions);
  void tell(Instant now, Member& member, Directive directive, Actions& actions);
  void tell_memory(Instant now, Member& member, bool send_inventory, Actions& actions);
  policy::AssignView assign_view() const;
  std::vector<std::string> devices_of(const Member& agent) const;

  const ControllerOptions options_;
  Catalogue catalogue_;
  std::map<std::string, Member> members_;         // Live.
  std::map<std::string, MemberReport> lost_;
  std::map<StreamId, std::string> streams_;       // Joined ones -> member.
  Suspicion<std::string> silence_;                // Members that beat.
  uint64_t suspects_version_ = 0;
  uint64_t suspected_ = 0;
  std::set<StreamId> refused_;                    // Their further reports are not heard.

  std::deque<Change> changes_;
  Events appending_;                              // Under way at the store; empty: none.
  std::function<void(const absl::Status&, Actions&)> appending_done_;
  absl::Status last_refusal_;                     // Of the store, since its last success; Ok: none. For the log.
  absl::Status replicas_unwritable_;              // Why the store refused what a memory server said last (asked for again each second); Ok: it took it.

  std::map<uint64_t, Deploy> deploys_;
  uint64_t next_deploy_;                          // Begins at first_version: never one of an earlier start.
  std::deque<BeginAsked> waiting_begins_;
  std::deque<CommitAsked> waiting_commits_;

  RepairIndex repair_;
  std::vector<policy::RepairServer> servers_;     // As of the last round: members and whoever the catalogue says holds blocks.
  std::map<std::string, uint32_t> server_index_;
  struct Gone { Instant since; bool for_good = false; };
  std::map<std::string, Gone> gone_;              // Servers that hold blocks and are not there.
  struct Recheck { std::string server; Digest cursor; };
  std::deque<Recheck> rechecks_;                  // Blocks that are to be judged anew: a server's after the cursor; of no server: all.
  std::deque<std::pair<Digest, Instant>> touched_;  // These too; nothing is copied before.
  struct Leaving { Instant stalled_at; uint64_t copied_blocks = 0; Digest cursor; bool told = false; };
  std::map<std::string, Leaving> leaving_;        // Memory servers that drain once others hold their blocks.
  std::deque<std::map<std::string, policy::ServerSample>> samples_{1};  // Of memory servers; one for each kHealthRound, the newest last.
  std::map<std::string, std::pair<Incarnation, std::map<std::string, ServerSeen>>> seen_by_;  // Agent -> what it said last.
  std::map<std::string, policy::Health> health_;  // Of memory servers that are, or were of late, excluded.
  Instant health_at_;
  Instant repair_at_;                             // The next round is not before.
  Instant repair_wake_ = Instant::infinite_future();  // And has something to do then.
  bool repair_due_ = true;                        // Or now.
  bool repairing_ = false;                        // It was said.
  std::map<Digest, Instant> evict_until_;         // Rides on assignments until then.

  Instant now_;                                   // Of this step.
  bool lineage_asked_ = false;
  Instant lineage_at_;                            // When a catalogue without lineage gets one, if it is not being stored.
  uint64_t sequence_;                             // Of the last event that the store acknowledged.
  std::vector<TenantStatus> tenants_;             // As of tenants_at_: counting walks the catalogue.
  std::pair<uint64_t, uint64_t> tenants_at_{UINT64_MAX, 0};

  uint64_t version_;
  bool told_dirty_ = true;                        // Assignments and views may have changed.
  bool replica_news_ = false;                     // So may replicas alone: told replica_news_every() after the last assignment.
  Instant replicas_told_{-kReplicaNewsMax.ns};
  uint64_t news_ = 0;                             // Rises when members are to be told anew;
  bool news_left_ = false;                        // some are told in the next step.
  bool garbage_dirty_ = true;
  bool settled_ = false;
  Instant settle_at_;
  Instant garbage_from_;                          // Leases of the last controller's deploys may still be in use before.
};

}  // namespace cenote::node
