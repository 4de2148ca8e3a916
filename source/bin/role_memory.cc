// The memory server's role: node/memory_server.h joined with gRPC, the fabric's thread, a hashing thread and the controller.
//
// Threads: this one steps the state machine; FabricThread registers and serves reads; Worker copies, hashes and writes to the disk; MemoryDisk's
// read it; gRPC's post events.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/units.h"
#include "bin/calls.h"
#include "bin/controller_news.h"
#include "bin/controller_pulse.h"
#include "bin/fabric_thread.h"
#include "bin/mailbox.h"
#include "bin/memory_copies.h"
#include "bin/memory_disk.h"
#include "bin/process_usage.h"
#include "bin/roles.h"
#include "bin/worker.h"
#include "memory/arena.h"
#include "node/memory_server.h"
#include "wire/controller_link.h"
#include "wire/memory_service.h"
#include "wire/server.h"

namespace cenote {
namespace {

struct LinkUp {};
using Event = std::variant<node::MemoryServerEvent, LinkUp, Directive>;

constexpr size_t kEventsMax = 8192;
constexpr Duration kDrainCheck = Duration::from_ms(20);

memory::HugePages huge_pages_of(HugePages setting) {
  return setting == HugePages::kOn ? memory::HugePages::kOn : setting == HugePages::kOff ? memory::HugePages::kOff : memory::HugePages::kAuto;
}

class MemoryRole {
 public:
  MemoryRole(const RoleContext& context, const MemorySettings& settings) : context_(context), settings_(settings), mailbox_(kEventsMax) {}
  ~MemoryRole() { stop(); }

  absl::Status run() {
    CENOTE_RETURN_IF_ERROR(start());
    loop();
    LOG_INFO("stopping");
    stop();
    return drained_by_controller_ ? absl::CancelledError("drained by the controller's word") : absl::OkStatus();
  }

 private:
  absl::Status start() {
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_node_identity(context_.state_directory + "/certificates"));
    CENOTE_ASSIGN_OR_RETURN(disk_, MemoryDisk::open(settings_, context_.settings.name));
    CENOTE_ASSIGN_OR_RETURN(arena_, memory::Arena::map(settings_.capacity_bytes, huge_pages_of(settings_.huge_pages)));
    notes_ = arena_->notes();
    if (disk_ != nullptr) notes_.insert(notes_.end(), disk_->notes().begin(), disk_->notes().end());
    for (const std::string& note : notes_) LOG_INFO("{}", note);
    const node::ArenaParts parts = node::part_arena(arena_->bytes().size(), settings_.slab_bytes_max, settings_.slabs_max);
    blocks_ = arena_->bytes().first(parts.block_area_bytes);
    slabs_ = arena_->bytes().subspan(parts.block_area_bytes);
    CENOTE_ASSIGN_OR_RETURN(fabric_, FabricThread::start({.provider = context_.settings.fabric_provider, .bind_address = settings_.host, .port = settings_.fabric_port}));
    absl::Status registered;
    fabric_->run([&](fabric::Transport& transport) {
      auto region = transport.register_memory(blocks_, fabric::Access::kRemoteRead);
      registered = region.status();
      if (region.ok()) block_region_ = *std::move(region);
    });
    CENOTE_RETURN_IF_ERROR(annotate(registered, str_cat("registering an arena of ", format_bytes(blocks_.size()))));
    machine_ = std::make_unique<node::MemoryServer>(node::MemoryServerOptions{
        .name = context_.name, .incarnation = incarnation_, .block_area_bytes = blocks_.size(), .slab_area_bytes = slabs_.size(),
        .read_key = block_region_->key().key, .read_base = block_region_->key().base, .slab_bytes_max = settings_.slab_bytes_max,
        .slabs_max = settings_.slabs_max, .grant_duration = settings_.grant_duration, .slab_duration = context_.settings.deploy_lease,
        .fabric_provider = fabric_->address().provider, .fabric_address = fabric_->address().bytes, .disk = disk_ != nullptr,
        .disk_capacity_bytes = settings_.data_capacity_bytes, .stored = disk_ != nullptr ? disk_->stored() : std::vector<BlockRef>{},
        .scrub_interval = settings_.scrub_interval, .copy_bytes_per_second = static_cast<uint64_t>(settings_.repair_gb_per_s * 1e9), .lineage = disk_ != nullptr ? disk_->lineage().lineage : 0,
        .lineage_sequence = disk_ != nullptr ? disk_->lineage().sequence : 0, .awaits_lineage = true});
    service_ = wire::make_memory_service(handlers());
    worker_ = std::make_unique<Worker>();
    copies_ = std::make_unique<MemoryCopies>(*fabric_, *block_region_, identity, context_.name, [this](node::CopyFetched done) { answer(std::move(done)); });
    CENOTE_ASSIGN_OR_RETURN(server_, wire::Server::start({.host = settings_.host, .port = settings_.port}, wire::server_credentials(identity), {service_.get()}));
    const ControllerSettings& controller = context_.settings.controller;
    link_ = wire::ControllerLink::open({.address = wire::format_address(controller.host, controller.port), .identity = identity},
                                       {.on_connected = [this] { mailbox_.post_answer(LinkUp{}); },
                                        .on_directive =
                                            [this](Directive directive) {
                                              controller_news_.spoke();
                                              mailbox_.post_answer(std::move(directive));
                                            },
                                        .on_disconnected = [this](const absl::Status& why) { controller_news_.disconnected(why); }});
    LOG_INFO("memory server on {}, fabric {}, {} for blocks, {} for slabs, pid {}", server_->address(), fabric_->provider(), format_bytes(blocks_.size()),
             format_bytes(slabs_.size()), ::getpid());
    return absl::OkStatus();
  }

  template <typename Result, typename Ask>
  void ask(Calls<Result>& calls, typename Calls<Result>::Done done, Ask event) {
    const uint64_t call = event.call = calls.add(next_call_, std::move(done));
    if (const absl::Status status = mailbox_.post(node::MemoryServerEvent(std::move(event))); !status.ok()) calls.finish(call, Result(status));
  }

  wire::MemoryHandlers handlers() {
    return {.grant = [this](wire::GrantAsk a, auto done) { ask(grants_, std::move(done), node::GrantAsked{.ids = std::move(a.ids), .wait = a.wait}); },
            .open = [this](wire::SlabAsk a, auto done) { ask(opens_, std::move(done), node::SlabAsked{.size_bytes = a.size_bytes, .writer = std::move(a.writer)}); },
            .seal =
                [this](wire::SealAsk a, auto done) {
                  ask(seals_, std::move(done), node::SealAsked{.slab = a.slab, .incarnation = a.incarnation, .ranges = std::move(a.ranges)});
                },
            .abandon = [this](uint64_t slab, Incarnation incarnation, auto done) { ask(abandons_, std::move(done), node::AbandonAsked{.slab = slab, .incarnation = incarnation}); }};
  }

  void loop() {
    Instant next_report = monotonic_now();
    Instant drain_end = Instant::infinite_future();  // Set once draining.
    std::vector<Event> events;
    while (true) {
      const bool draining = drain_end != Instant::infinite_future();
      const Instant drain_check = draining ? monotonic_now() + kDrainCheck : drain_end;
      mailbox_.wait(std::min({next_report, machine_->next_deadline(), pulse_.next(), drain_check}), {draining ? -1 : context_.stop_fd}, events);
      const Instant now = monotonic_now();
      pulse_.step(now, *link_);
      std::vector<node::MemoryServerEvent> inputs;
      for (Event& event : events) take(std::move(event), inputs);
      if (!draining && (drained_by_controller_ || context_.stop_requested())) {
        drain_end = now + context_.settings.drain_timeout;
        inputs.push_back(node::DrainAsked{});
        next_report = now;  // The controller hears of it.
      }
      actions_.clear();
      machine_->step(now, inputs, actions_);
      for (node::MemoryServerAction& action : actions_) {
        std::visit([this](auto& a) { perform(a); }, action);
      }
      if (inventory_due_ || machine_->changed() || now >= next_report) {
        report();
        next_report = now + context_.settings.controller.heartbeat_interval;
      }
      if (machine_->drained(now) || now >= drain_end) return;
    }
  }

  void take(Event event, std::vector<node::MemoryServerEvent>& inputs) {
    if (auto* input = std::get_if<node::MemoryServerEvent>(&event)) {
      inputs.push_back(std::move(*input));
    } else if (std::holds_alternative<LinkUp>(event)) {
      inventory_due_ = true;
    } else {
      obey(std::get<Directive>(std::move(event)), inputs);
    }
  }

  void obey(Directive directive, std::vector<node::MemoryServerEvent>& inputs) {
    if (auto* memory = std::get_if<MemoryDirective>(&directive)) {
      if (!memory->drop.empty()) inputs.push_back(node::BlocksDropped{std::move(memory->drop)});
      if (memory->send_inventory) inventory_due_ = true;
      if (memory->lineage != 0) inputs.push_back(node::LineageTold{memory->lineage, memory->lineage_sequence});
      inputs.push_back(node::CopiesWanted{std::move(memory->copy), std::move(memory->sources)});
      inputs.push_back(node::ChecksWanted{std::move(memory->check)});
    } else if (std::holds_alternative<DrainMember>(directive)) {
      drained_by_controller_ = true;
    } else if (const auto* refused = std::get_if<Refused>(&directive)) {
      LOG_ERROR("the controller refuses this server: {}", refused->status.message());
    }
  }

  // ---- actions -----------------------------------------------------------------------------------------------------------
  void perform(node::GrantReply& reply) { grants_.finish(reply.call, std::move(reply.grant)); }
  void perform(node::SlabReply& reply) { opens_.finish(reply.call, std::move(reply.slab)); }
  void perform(node::SealReply& reply) {
    if (!reply.result.ok()) LOG_WARNING("seal: {}", reply.result.status().message());
    seals_.finish(reply.call, std::move(reply.result));
  }
  void perform(node::AbandonReply& reply) { abandons_.finish(reply.call, reply.status); }
  void perform(node::RegisterSlab& action) {
    fabric_->post([this, action](fabric::Transport& transport) {
      auto region = transport.register_memory(slabs_.subspan(action.offset_bytes, action.size_bytes), fabric::Access::kRemoteWrite);
      node::SlabRegistered done{.slab = action.slab, .status = region.status()};
      if (region.ok()) {
        done.key = (*region)->key().key;
        done.base = (*region)->key().base;
        slab_regions_.emplace(action.slab, *std::move(region));
      }
      mailbox_.post_answer(node::MemoryServerEvent(std::move(done)));
    });
  }
  void perform(node::UnregisterSlab& action) {
    fabric_->post([this, slab = action.slab](fabric::Transport&) {
      slab_regions_.erase(slab);
      mailbox_.post_answer(node::MemoryServerEvent(node::SlabUnregistered{slab}));
    });
  }
  void perform(node::CopyAndHash& action) {
    write_later([this, action = std::move(action)] { return disk_ != nullptr ? disk_->seal(areas(), action) : copy_and_hash(areas(), action); });
  }
  void perform(node::StoreBlock& action) {
    write_later([this, action] { return disk_->store(areas(), action); });
  }
  void perform(node::RemoveBlocks& action) {
    worker_->post([this, action = std::move(action)] { disk_->remove(action); });
  }
  void perform(node::RememberLineage& action) {
    worker_->post([this, action] { disk_->remember(action); });
  }
  void perform(node::LoadBlock& action) {
    disk_->read_later([this, action] { answer(disk_->load(areas(), action)); });
  }
  void perform(node::ScrubBlock& action) {
    if (disk_ != nullptr) {
      disk_->read_later([this, action] { answer(disk_->scrub(areas(), action)); });
    } else {
      write_later([this, action] { return scrub_arena(areas(), action); });
    }
  }
  void perform(node::FetchCopy& action) { copies_->fetch(action); }
  void perform(node::CheckCopy& action) {
    write_later([this, action] { return disk_ != nullptr ? disk_->check_copy(areas(), action) : check_copy(areas(), action); });
  }
  MemoryAreas areas() const { return {.slabs = slabs_, .blocks = blocks_}; }
  void answer(node::MemoryServerEvent event) { mailbox_.post_answer(std::move(event)); }
  template <typename Work>
  void write_later(Work work) {
    worker_->post([this, work = std::move(work)] { answer(work()); });
  }

  // ---- reports -----------------------------------------------------------------------------------------------------------
  void report() {
    MemberReport report{.name = context_.name, .role = Role::kMemory, .incarnation = incarnation_, .address = server_->address(), .notes = notes_};
    fill_process_usage(report);
    const bool whole = inventory_due_;
    const bool changed = machine_->changed();
    machine_->fill_report(monotonic_now(), whole, report);
    report.suspected = pulse_.suspected();
    report.stalls = pulse_.stalls().stalls;
    report.stall_longest = pulse_.stalls().longest;
    report.memory.name = context_.name;
    report.memory.control_address = server_->address();
    if (!whole && !changed) {
      link_->report(report);
    } else if (link_->report_increment(report).ok()) {
      inventory_due_ = false;
    } else {
      inventory_due_ = false;  // on_connected asks for it anew.
      lost_increment_ = true;
    }
    if (lost_increment_ && link_->connected()) {
      lost_increment_ = false;
      inventory_due_ = true;
    }
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    link_.reset();
    mailbox_.close();
    const absl::Status ending = absl::UnavailableError(str_cat("memory server ", context_.name, " is stopping"));
    grants_.fail_all(ending);
    opens_.fail_all(ending);
    seals_.fail_all(ending);
    abandons_.fail_all(ending);
    if (server_ != nullptr) server_->stop(Duration::from_ms(200));
    copies_.reset();
    worker_.reset();
    disk_.reset();
    if (fabric_ != nullptr) {
      fabric_->run([this](fabric::Transport&) {
        slab_regions_.clear();
        block_region_.reset();
      });
      fabric_.reset();
    }
  }

  const RoleContext& context_;
  const MemorySettings& settings_;
  const Incarnation incarnation_ = new_incarnation();
  Mailbox<Event> mailbox_;
  std::unique_ptr<memory::Arena> arena_;
  std::vector<std::string> notes_;  // Of what the system refused.
  std::span<std::byte> blocks_, slabs_;
  std::unique_ptr<FabricThread> fabric_;
  std::unique_ptr<fabric::MemoryRegion> block_region_;                       // Both: the fabric's thread only.
  std::map<uint64_t, std::unique_ptr<fabric::MemoryRegion>> slab_regions_;
  std::unique_ptr<node::MemoryServer> machine_;
  std::vector<node::MemoryServerAction> actions_;
  std::unique_ptr<MemoryDisk> disk_;  // Null without data_dir.
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<MemoryCopies> copies_;
  std::atomic<uint64_t> next_call_{1};
  Calls<absl::StatusOr<Grant>> grants_;
  Calls<absl::StatusOr<SlabInfo>> opens_;
  Calls<absl::StatusOr<SealResult>> seals_;
  Calls<absl::Status> abandons_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<wire::Server> server_;
  ControllerNews controller_news_;
  std::unique_ptr<wire::ControllerLink> link_;
  ControllerPulse pulse_{context_.settings.silence_max};
  bool inventory_due_ = false;
  bool lost_increment_ = false;
  bool drained_by_controller_ = false;
  bool stopped_ = false;
};

}  // namespace

absl::Status run_memory(const RoleContext& context) {
  const MemorySettings* settings = context.settings.memory_server(context.name);
  if (settings == nullptr) {
    return absl::InvalidArgumentError(str_cat(context.settings.file, " has no memory server named ", context.name, "; its [[memory]] sections name those there are"));
  }
  return MemoryRole(context, *settings).run();
}

}  // namespace cenote
