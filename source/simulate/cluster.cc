#include "simulate/cluster.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::simulate {

Cluster::Cluster(World& world) : world_(world), network_(world), truth_(world) {
  controller_options_ = {.cluster = "simulated", .member_timeout = Duration::from_ms(2'000), .deploy_lease = Duration::from_ms(6'000),
                         .placement = static_cast<PlacementPolicy>(world.draw(4)), .replicas = 1 + static_cast<uint32_t>(world.draw(2)),
                         .repair_after = Duration::from_ms(3'000), .group_bytes = 4 * kMiB,
                         .health = {.probation = Duration::from_ms(3'000), .probation_doubled_max = 1}};
  memory_shape_.slabs_max = 1 + static_cast<uint32_t>(world.draw(4));
  memory_shape_.slab_duration = controller_options_.deploy_lease;
  router_options_ = {.queue_max = 16 + static_cast<uint32_t>(world.draw(48)), .outstanding_max = 4 + static_cast<uint32_t>(world.draw(28)),
                     .retry_max = 1 + static_cast<uint32_t>(world.draw(4)), .deadline = Duration::from_seconds(10)};
  controller_ = network_.add_place("controller", "controller");
  node::SupervisorOptions supervised{.children = {{"controller", Role::kController}}, .drain_timeout = Duration::from_seconds(3)};
  daemons_.push_back(controller_);
  const auto add = [&](const std::string& name, Role role, std::vector<PlaceId>& kind) {
    kind.push_back(network_.add_place(name, name));
    daemons_.push_back(kind.back());
    supervised.children.push_back({name, role});
    if (role != Role::kRouter) controller_options_.expected.insert(name);
  };
  for (uint64_t i = 0, count = 1 + world.draw(3); i < count; ++i) add(str_cat("memory-", i), Role::kMemory, memories_);
  for (uint64_t i = 0, count = 1 + world.draw(2); i < count; ++i) {
    const std::string name = str_cat("agent-", i);
    add(name, Role::kAgent, agents_);
    AgentShape& shape = agent_shapes_[name];
    shape.cache_bytes = (28 + world.draw(4) * 8) * kMiB;
    for (uint64_t d = 0, devices = 1 + world.draw(2); d < devices; ++d) {
      DeviceShape device{.maps_host_memory = world.chance(50), .credits = 1 + static_cast<uint32_t>(world.draw(4)), .queue_max = 4 + static_cast<uint32_t>(world.draw(12))};
      device.compute_max = Duration::from_ms(int64_t{4} << world.draw(8));
      device.name = str_cat(device.maps_host_memory ? "host:" : "emulated:", d);
      controller_options_.agent_devices[name].push_back(device.name);
      executors_.push_back(network_.add_place(str_cat(name, "/", device.name), name));
      daemons_.push_back(executors_.back());
      shape.devices.push_back(std::move(device));
    }
  }
  for (uint64_t i = 0, count = 1 + world.draw(2); i < count; ++i) add(str_cat("router-", i), Role::kRouter, routers_);
  all_ = daemons_;
  const PlaceId supervisor = network_.add_place("supervisor", "supervisor");
  network_.start(supervisor, std::make_unique<SupervisorNode>(network_, supervisor, world.draw_incarnation(), supervised,
                                                              [this](const std::string& name) { return make(name); }));
  for (int i = 0; i < 2; ++i) {
    operators_.push_back(network_.add_place(str_cat("operator-", i), str_cat("operator-", i)));
    network_.start(operators_.back(), std::make_unique<OperatorNode>(network_, operators_.back(), world.draw_incarnation(), controller_, truth_));
    clients_.push_back(network_.add_place(str_cat("client-", i), str_cat("client-", i)));
    network_.start(clients_.back(), std::make_unique<ClientNode>(network_, clients_.back(), world.draw_incarnation(), routers_, truth_));
    all_.push_back(operators_.back());
    all_.push_back(clients_.back());
  }
}

std::unique_ptr<Process> Cluster::make(const std::string& name) {
  const PlaceId place = network_.find(name);
  const Incarnation incarnation = world_.draw_incarnation();
  if (place == controller_) return std::make_unique<ControllerNode>(network_, place, incarnation, controller_options_, truth_);
  if (std::find(memories_.begin(), memories_.end(), place) != memories_.end()) {
    bytes_lost_ |= world_.now() > Instant{Duration::from_ms(1).ns};  // Not its first start.
    return std::make_unique<MemoryNode>(network_, place, incarnation, memory_shape_, controller_);
  }
  if (const auto agent = agent_shapes_.find(name); agent != agent_shapes_.end()) {
    return std::make_unique<AgentNode>(network_, place, incarnation, agent->second, controller_, truth_);
  }
  node::RouterOptions options = router_options_;
  options.name = name;
  return std::make_unique<RouterNode>(network_, place, incarnation, options, controller_);
}

std::vector<std::string> Cluster::drainable() const {
  std::vector<std::string> names;
  for (const auto* kind : {&memories_, &agents_, &routers_}) {
    for (const PlaceId place : *kind) names.push_back(network_.name(place));
  }
  return names;
}

bool Cluster::can_be_fetched(const Digest& revision) const {
  const RevisionRecord* record = truth_.disk.durable.find(revision);
  if (record == nullptr) return false;
  std::vector<BlockRef> needed = record->manifest_blocks;
  needed.insert(needed.end(), record->blocks.begin(), record->blocks.end());
  return std::all_of(needed.begin(), needed.end(), [&](const BlockRef& block) {
    return std::any_of(memories_.begin(), memories_.end(), [&](PlaceId place) {
      const auto* server = static_cast<const MemoryNode*>(network_.process(place));
      return server != nullptr && server->holds_right(block);
    });
  });
}

bool Cluster::healthy() const {
  const auto& revisions = truth_.disk.durable.revisions();
  return std::all_of(revisions.begin(), revisions.end(), [&](const auto& entry) { return can_be_fetched(entry.first); });
}

// ---- when all is quiet -----------------------------------------------------------------------------------------------------
void Cluster::check_members() const {
  for (const PlaceId place : daemons_) {
    if (network_.process(place) == nullptr) world_.fail(str_cat(network_.name(place), " does not run, though nothing harms it any more"));
  }
}

void Cluster::check_no_leaks() const {
  check_members();
  if (world_.failed()) return;
  const auto& controller = static_cast<const ControllerNode&>(*network_.process(controller_));
  if (controller.unanswered() != 0) world_.fail(str_cat("the controller owes ", controller.unanswered(), " answers"));
  if (truth_.open_requests() != 0) world_.fail(str_cat(truth_.open_requests(), " requests have no outcome"));
  for (const PlaceId place : routers_) {
    const node::RouterCounts counts = static_cast<const RouterNode&>(*network_.process(place)).machine().counts();
    if (counts.outstanding + counts.queued != 0) world_.fail(str_cat(network_.name(place), " keeps ", counts.outstanding, " outstanding and ", counts.queued, " queued requests"));
  }
  for (const PlaceId place : executors_) {
    ExecutorReport report;
    static_cast<const ExecutorNode&>(*network_.process(place)).machine().fill_report(report);
    if (report.running != 0) world_.fail(str_cat(network_.name(place), " keeps ", report.running, " requests"));
  }
  check_memories();
  check_agents();
}

void Cluster::check_memories() const {
  for (const PlaceId place : memories_) {
    const auto& server = static_cast<const MemoryNode&>(*network_.process(place));
    const std::string& name = network_.name(place);
    if (server.unanswered() != 0) world_.fail(str_cat(name, " owes ", server.unanswered(), " answers"));
    node::MemoryServer copy = server.machine();
    MemberReport report;
    copy.fill_report(world_.now(), true, report);
    if (report.slabs_open != 0) world_.fail(str_cat(name, " keeps ", report.slabs_open, " slabs"));
    std::vector<BlockRef> known = truth_.disk.durable.held_by(name);
    std::sort(known.begin(), known.end());
    std::sort(report.held.begin(), report.held.end());
    if (known != report.held) world_.fail(str_cat(name, " holds ", report.held.size(), " blocks, the catalogue says ", known.size()));
    uint64_t bytes = 0;
    for (const BlockRef& block : report.held) {
      bytes += round_up(block.size_bytes, kBlockAlignBytes);
      if (truth_.disk.durable.references(block.id) == 0) world_.fail(str_cat(name, " keeps block ", block.id.short_hex(), ", which no revision needs"));
    }
    if (copy.blocks().leaving_count() == 0 && copy.blocks().used_bytes() != bytes) {
      world_.fail(str_cat(name, " has ", copy.blocks().used_bytes(), " bytes taken, its blocks fill ", bytes));
    }
  }
}

// What is pinned is what executors have mapped.
void Cluster::check_agents() const {
  if (!healthy()) return;  // What cannot be fetched is tried again and again, and pinned meanwhile.
  for (const PlaceId place : agents_) {
    const auto& agent = static_cast<const AgentNode&>(*network_.process(place));
    if (!agent.idle()) continue;
    std::map<Digest, uint64_t> pinned;
    for (const DeviceShape& device : agent_shapes_.at(network_.name(place)).devices) {
      const auto& executor = static_cast<const ExecutorNode&>(*network_.process(network_.find(str_cat(network_.name(place), "/", device.name))));
      for (const Digest& revision : executor.mapped()) {
        const RevisionRecord* record = truth_.model(revision);
        for (const auto* blocks : {&record->manifest_blocks, &record->blocks}) {
          for (const BlockRef& block : *blocks) pinned[block.id] = round_up(block.size_bytes, kBlockAlignBytes);
        }
      }
    }
    uint64_t bytes = 0;
    for (const auto& [block, size] : pinned) bytes += size;
    const uint64_t said = agent.machine().counts().cache_pinned_bytes;
    if (said != bytes) world_.fail(str_cat(network_.name(place), " has ", said, " bytes pinned, its executors have mapped ", bytes));
  }
}

void Cluster::check_acknowledged() const {
  for (const PlaceId place : operators_) {
    const auto& person = static_cast<const OperatorNode&>(*network_.process(place));
    for (const auto& [tag, revision] : person.acknowledged()) {
      if (person.doubtful().contains(tag.first)) continue;
      const TagState* state = truth_.disk.durable.tag(tag.first, tag.second);
      if ((state == nullptr ? Digest{} : state->revision) != revision) {
        world_.fail(str_cat(tag.first, ":", tag.second, " is ", state == nullptr ? "gone" : state->revision.short_hex(), ", acknowledged was ",
                            revision.empty() ? "its removal" : revision.short_hex()));
      }
    }
  }
}

void Cluster::note_peace() { all_fetchable_ = healthy(); }

void Cluster::check_nothing_lost() const {
  if (!bytes_lost_ && !healthy()) world_.fail("a deployed revision cannot be fetched, though no server lost a byte");
  if (!all_fetchable_ || !healthy()) return;  // Requests for what cannot be had take the others' turns at the executors.
  for (const auto& [id, request] : truth_.requests()) {
    const bool given_up = absl::IsDeadlineExceeded(request.status) || absl::IsUnavailable(request.status);
    if (!request.patient || !given_up || request.meant.empty() || !truth_.known_since(request.model, request.submitted)) continue;
    if (*truth_.disk.durable.resolve(request.model) != request.meant) continue;
    world_.fail(str_cat("request ", id.low, " for ", request.model, " (made at ", request.submitted.ns / 1'000'000, " ms) was lost, though no fault was left long before its deadline: ", request.status.ToString()));
  }
}

void Cluster::check_replicas() const {
  if (world_.failed()) return;
  const size_t wanted = std::min<size_t>(controller_options_.replicas, memories_.size());
  for (const auto& [id, state] : truth_.disk.durable.blocks()) {
    if (state.references == 0) continue;
    const BlockRef block{.id = id, .size_bytes = state.size_bytes};
    size_t holders = 0;
    bool right = false, room = false;
    for (const PlaceId place : memories_) {
      const auto& server = static_cast<const MemoryNode&>(*network_.process(place));
      const bool holds = server.machine().blocks().find(id).has_value();
      holders += holds ? 1 : 0;
      right = right || server.holds_right(block);
      room = room || (!holds && server.machine().blocks().extents().largest_free_bytes() >= 2 * kBlockBytesMax);
    }
    if (holders < wanted && right && room) world_.fail(str_cat("block ", id.short_hex(), " has ", holders, " replicas, ", wanted, " are wanted, and there is room for another"));
    if (holders > controller_options_.replicas) world_.fail(str_cat("block ", id.short_hex(), " has ", holders, " replicas, ", controller_options_.replicas, " are wanted"));
  }
}

void Cluster::check_empty() const {
  check_no_leaks();
  if (world_.failed() || !truth_.disk.durable.revisions().empty()) return;
  for (const PlaceId place : memories_) {
    const auto& blocks = static_cast<const MemoryNode&>(*network_.process(place)).machine().blocks();
    if (blocks.used_bytes() != 0) world_.fail(str_cat(network_.name(place), " has ", blocks.used_bytes(), " bytes taken, and no model is left"));
  }
  for (const PlaceId place : agents_) {
    const node::AgentCounts counts = static_cast<const AgentNode&>(*network_.process(place)).machine().counts();
    if (counts.cache_used_bytes != 0) world_.fail(str_cat(network_.name(place), " has ", counts.cache_used_bytes, " bytes in its cache, and no model is left"));
  }
}

}  // namespace cenote::simulate
