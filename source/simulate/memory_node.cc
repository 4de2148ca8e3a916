#include "simulate/memory_node.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::simulate {
namespace {

constexpr Duration kDrainCheck = Duration::from_ms(20);
constexpr int64_t kHashBytesPerUs = 1'800;
constexpr Duration kCopyGrantFor = Duration::from_seconds(10);

node::MemoryServerOptions options_of(const std::string& name, Incarnation incarnation, const MemoryShape& shape, const node::ArenaParts& parts,
                                     uint64_t read_key) {
  return {.name = name, .incarnation = incarnation, .block_area_bytes = parts.block_area_bytes, .slab_area_bytes = parts.slab_area_bytes,
          .read_key = read_key, .read_base = 0, .slab_bytes_max = shape.slab_bytes_max, .slabs_max = shape.slabs_max,
          .grant_duration = shape.grant_duration, .slab_duration = shape.slab_duration, .fabric_provider = "simulated", .fabric_address = name, .awaits_lineage = true};
}

}  // namespace

MemoryNode::MemoryNode(Network& network, PlaceId place, Incarnation incarnation, const MemoryShape& shape, PlaceId controller)
    : Process(network, place, incarnation), shape_(shape), read_key_(world().draw_incarnation()),
      parts_(node::part_arena(shape.capacity_bytes, shape.slab_bytes_max, shape.slabs_max)),
      machine_(options_of(name(), incarnation, shape, parts_, read_key_)),
      link_(*this, controller, {.connected = [this] { inventory_due_ = true; }, .directive = [this](Directive directive) { obey(std::move(directive)); }}) {}

Instant MemoryNode::due() const {
  const Instant drain_check = drain_end_ == Instant::infinite_future() ? drain_end_ : world_ref().now() + kDrainCheck;
  return std::min({next_report_, machine_.next_deadline(), drain_check});
}

// The loop of bin/role_memory.cc.
void MemoryNode::run(Instant now) {
  if (drain_asked_ && drain_end_ == Instant::infinite_future()) {
    drain_end_ = now + shape_.drain_timeout;
    inputs_.emplace_back(node::DrainAsked{});
    next_report_ = now;
  }
  const std::vector<node::MemoryServerEvent> events = std::exchange(inputs_, {});
  std::vector<node::MemoryServerAction> actions;
  const bool early = events.empty() && now < machine_.next_deadline();
  machine_.step(now, events, actions);
  if (early && !actions.empty()) world().fail(str_cat(name(), " acted before the deadline it named"));
  for (node::MemoryServerAction& action : actions) {
    world().note(action.index());
    std::visit([this](auto& a) { perform(a); }, action);
  }
  check();
  if (inventory_due_ || machine_.changed() || now >= next_report_) {
    report();
    next_report_ = now + shape_.heartbeat;
  }
  if (machine_.drained(now) || now >= drain_end_) network().exit(*this, "drained");
}

void MemoryNode::obey(Directive directive) {
  if (auto* memory = std::get_if<MemoryDirective>(&directive)) {
    if (!memory->drop.empty()) inputs_.emplace_back(node::BlocksDropped{std::move(memory->drop)});
    if (memory->send_inventory) inventory_due_ = true;
    if (memory->lineage != 0) inputs_.emplace_back(node::LineageTold{memory->lineage, memory->lineage_sequence});
    inputs_.emplace_back(node::CopiesWanted{std::move(memory->copy), std::move(memory->sources)});
    inputs_.emplace_back(node::ChecksWanted{std::move(memory->check)});
  } else if (std::holds_alternative<DrainMember>(directive)) {
    drain_asked_ = true;
  }
}

void MemoryNode::report() {
  MemberReport report{.name = name(), .role = Role::kMemory, .incarnation = incarnation(), .address = name()};
  const bool whole = inventory_due_;
  const bool changed = machine_.changed();
  machine_.fill_report(world().now(), whole, report);
  report.memory.name = name();
  report.memory.control_address = name();
  inventory_due_ = false;
  if (!whole && !changed) {
    link_.report(report);
  } else if (!link_.report_increment(report).ok()) {
    lost_increment_ = true;
  }
  if (lost_increment_ && link_.connected()) {
    lost_increment_ = false;
    inventory_due_ = true;
  }
}

// ---- calls -----------------------------------------------------------------------------------------------------------------
void MemoryNode::grant(std::vector<Digest> ids, Instant sent_at, Network::Answer<absl::StatusOr<Grant>> done) {
  const uint64_t call = grants_.add(next_call_, std::move(done));
  asked_[call] = sent_at;
  inputs_.emplace_back(node::GrantAsked{call, std::move(ids)});
}

void MemoryNode::open(uint64_t size_bytes, const std::string& writer, Network::Answer<absl::StatusOr<SlabInfo>> done) {
  inputs_.emplace_back(node::SlabAsked{opens_.add(next_call_, std::move(done)), size_bytes, writer});
}

void MemoryNode::seal(uint64_t slab, Incarnation incarnation, std::vector<SealRange> ranges, Network::Answer<absl::StatusOr<SealResult>> done) {
  inputs_.emplace_back(node::SealAsked{seals_.add(next_call_, std::move(done)), slab, incarnation, std::move(ranges)});
}

void MemoryNode::abandon(uint64_t slab, Incarnation incarnation, Network::Answer<absl::Status> done) {
  inputs_.emplace_back(node::AbandonAsked{abandons_.add(next_call_, std::move(done)), slab, incarnation});
}

void MemoryNode::perform(node::GrantReply& reply) {
  const Instant sent_at = asked_.extract(reply.call).mapped();
  if (reply.grant.ok()) {
    const Instant now = world().now();
    std::erase_if(live_, [&](const Live& live) { return live.until <= now; });
    for (const BlockGrant& block : reply.grant->blocks) {
      live_.push_back({block.offset_bytes, block.offset_bytes + block.size_bytes, sent_at + reply.grant->duration});
      if (block.offset_bytes + block.size_bytes > parts_.block_area_bytes) world().fail(str_cat(name(), " grants bytes outside its arena"));
    }
  }
  grants_.finish(world(), reply.call, std::move(reply.grant), 512);
}

// ---- slabs -----------------------------------------------------------------------------------------------------------------
void MemoryNode::perform(node::RegisterSlab& action) {
  network().later(*this, world().draw(Duration::from_us(20), Duration::from_us(300)), [this, action] {
    for (const auto& [slab, region] : regions_) {
      if (action.offset_bytes < region.offset_bytes + region.size_bytes && region.offset_bytes < action.offset_bytes + action.size_bytes) {
        world().fail(str_cat(name(), ": slabs ", slab, " and ", action.slab, " share bytes"));
      }
    }
    const uint64_t key = world().draw_incarnation();
    slabs_.erase(action.offset_bytes, action.size_bytes);  // What the last writer left is nobody's.
    regions_[action.slab] = {action.offset_bytes, action.size_bytes, key};
    inputs_.emplace_back(node::SlabRegistered{.slab = action.slab, .key = key});
  });
}

void MemoryNode::perform(node::UnregisterSlab& action) {
  network().later(*this, world().draw(Duration::from_us(20), Duration::from_us(300)), [this, slab = action.slab] {
    regions_.erase(slab);
    inputs_.emplace_back(node::SlabUnregistered{slab});
  });
}

void MemoryNode::no_disk(std::string_view what) { world().fail(str_cat(name(), " ", what, " and has no disk")); }

void MemoryNode::perform(node::CopyAndHash& action) {
  uint64_t bytes = 0;
  for (const node::CopyRange& range : action.ranges) {
    bytes += range.block.size_bytes;
    check_target(range.target_offset_bytes, range.block.size_bytes);
  }
  network().later(*this, Duration::from_us(20 + static_cast<int64_t>(bytes) / kHashBytesPerUs), [this, action = std::move(action)] {
    inputs_.emplace_back(node::SealVerified{action.slab, copy_and_hash(action.ranges)});
  });
}

absl::Status MemoryNode::copy_and_hash(const std::vector<node::CopyRange>& ranges) {
  for (const node::CopyRange& range : ranges) {
    check_target(range.target_offset_bytes, range.block.size_bytes);
    const bool right = slabs_.holds(range.source_offset_bytes, range.block);
    arena_.erase(range.target_offset_bytes, range.block.size_bytes);
    if (!right) return absl::DataLossError(str_cat("block ", range.block.id.short_hex(), " came corrupt; send it again"));
    arena_.write_block(range.target_offset_bytes, range.block);
  }
  return absl::OkStatus();
}

// ---- copies: bin/memory_copies.cc, in one read -------------------------------------------------------------------------------
void MemoryNode::perform(node::FetchCopy& action) {
  check_target(action.target_offset_bytes, action.block.size_bytes);
  using Result = absl::StatusOr<Grant>;
  const Instant sent_at = world().now();
  network().call<Result>(
      *this, network().find(action.source.name), 64, kCopyGrantFor,
      [id = action.block.id, sent_at](Process& source, const Network::Answer<Result>& answer) { static_cast<MemoryNode&>(source).grant({id}, sent_at, answer); },
      [this, action, sent_at](Result grant) {
        if (!grant.ok()) return end_copy(action.block.id, grant.status());
        if (grant->incarnation != action.source.incarnation || grant->blocks.size() != 1) return end_copy(action.block.id, absl::NotFoundError("it does not hold the block"));
        read_copy(action, sent_at, *grant);
      });
}

void MemoryNode::read_copy(const node::FetchCopy& action, Instant sent_at, const Grant& grant) {
  using Result = absl::StatusOr<std::vector<Chunk>>;
  const Duration left = sent_at + grant.duration - world().now();
  if (left <= Duration{}) return end_copy(action.block.id, absl::DeadlineExceededError("the grant ended"));
  network().call<Result>(
      *this, network().find(action.source.name), 64, left,
      [key = grant.region_key, offset = grant.blocks.front().offset_bytes, size = action.block.size_bytes](Process& source, const Network::Answer<Result>& answer) {
        Result chunks = static_cast<MemoryNode&>(source).read(key, offset, size);
        if (chunks.ok()) {
          for (Chunk& chunk : *chunks) chunk.corrupt |= source.world().draw(1000) < source.network().corrupt_per_mille;
        }
        answer(std::move(chunks), size);
      },
      [this, action](Result chunks) {
        if (!chunks.ok()) return end_copy(action.block.id, chunks.status());
        check_target(action.target_offset_bytes, action.block.size_bytes);
        uint64_t offset = action.target_offset_bytes;
        for (const Chunk& chunk : *chunks) {
          arena_.write(offset, chunk);
          offset += chunk.size_bytes;
        }
        end_copy(action.block.id, absl::OkStatus());
      });
}

void MemoryNode::perform(node::CheckCopy& action) {
  network().later(*this, Duration::from_us(20 + action.block.size_bytes / kHashBytesPerUs), [this, action] {
    const bool right = arena_.holds(action.offset_bytes, action.block);
    inputs_.emplace_back(node::CopyChecked{action.block.id, right ? absl::OkStatus() : absl::DataLossError("it is another's bytes"), false});
  });
}

void MemoryNode::perform(node::ScrubBlock& action) {
  if (action.disk || !action.arena_offset_bytes) return no_disk("scrubs a disk");
  network().later(*this, Duration::from_us(20 + action.block.size_bytes / kHashBytesPerUs), [this, action] {
    const bool right = arena_.holds(*action.arena_offset_bytes, action.block);
    inputs_.emplace_back(node::BlockScrubbed{.disk = {}, .arena = right ? absl::OkStatus() : absl::DataLossError("rotten")});
  });
}

// Where it is about to write nothing lies that anybody counts on.
void MemoryNode::check_target(uint64_t offset, uint64_t size_bytes) const {
  const uint64_t end = offset + size_bytes;
  if (end > parts_.block_area_bytes) world_ref().fail(str_cat(name(), " seals outside its arena"));
  for (const Live& live : live_) {
    if (live.until > world_ref().now() && offset < live.end && live.begin < end) {
      world_ref().fail(str_cat(name(), " reuses bytes [", offset, ", ", end, ") under a grant that its holder counts for ", (live.until - world_ref().now()).ms(), " ms more"));
    }
  }
  for (const BlockRef& block : machine_.blocks().held()) {
    const auto place = machine_.blocks().find(block.id);
    if (offset < place->offset_bytes + place->size_bytes && place->offset_bytes < end) world_ref().fail(str_cat(name(), " seals over block ", block.id.short_hex()));
  }
}

void MemoryNode::check() const {
  const memory::Extents& extents = machine_.blocks().extents();
  if (extents.taken_bytes() > parts_.block_area_bytes) world_ref().fail(str_cat(name(), " holds more than its arena"));
}

// ---- the fabric ------------------------------------------------------------------------------------------------------------
absl::StatusOr<std::vector<Chunk>> MemoryNode::read(uint64_t key, uint64_t offset, uint64_t size_bytes) const {
  if (key != read_key_ || offset + size_bytes > parts_.block_area_bytes) return absl::UnavailableError("the key is not registered for this");
  return arena_.read(offset, size_bytes);
}

absl::Status MemoryNode::write(uint64_t key, uint64_t offset, const std::vector<Chunk>& chunks) {
  const auto region = std::find_if(regions_.begin(), regions_.end(), [&](const auto& entry) { return entry.second.key == key; });
  if (region == regions_.end()) return absl::UnavailableError("the key is not registered for this");
  for (const Chunk& chunk : chunks) {
    if (offset + chunk.size_bytes > region->second.size_bytes) return absl::UnavailableError("outside the slab");
    slabs_.write(region->second.offset_bytes + offset, chunk);
    offset += chunk.size_bytes;
  }
  return absl::OkStatus();
}

bool MemoryNode::holds_right(const BlockRef& block) const {
  const auto place = machine_.blocks().find(block.id);
  return place && arena_.holds(place->offset_bytes, block);
}

}  // namespace cenote::simulate
