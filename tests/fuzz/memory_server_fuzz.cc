// Goal: whatever writers and readers ask of a memory server, and however copying, its disk and its fabric fail, each call is answered once,
// slabs and blocks stay within their areas and apart, and it counts what it holds rightly.
// Input: fuzz::Script; the first byte says whether there is a disk. What the server asks for is answered at once, in ways that `who` picks.
#include <map>
#include <set>

#include "node/memory_server.h"
#include "script.h"

namespace cenote {
namespace {

using namespace node;
using fuzz::Record;

class World final : fuzz::Surroundings<MemoryServerEvent> {
 public:
  explicit World(bool disk) : options_(options(disk)), server_(options_) {}

  void play(const Record& record) {
    luck_ = record.who;
    if (auto event = event_of(record)) feed(*std::move(event));
    check();
  }
  void end() {
    luck_ = 0;
    for (int i = 0; i < 6; ++i) pass(Duration::from_ms(4'000));
    feed(DrainAsked{});
    for (int i = 0; i < 6; ++i) pass(Duration::from_ms(4'000));
    CENOTE_CHECK(open_.empty());
    CENOTE_CHECK(registered_.empty());
    check();
  }

 private:
  using Events = std::vector<MemoryServerEvent>;

  static MemoryServerOptions options(bool disk) {
    MemoryServerOptions options{.name = "memory-0", .incarnation = 7, .block_area_bytes = kMiB, .slab_area_bytes = kMiB, .read_key = 11,
                                .slab_bytes_max = kMiB, .slabs_max = 3, .grant_duration = Duration::from_ms(1'000), .slab_duration = Duration::from_ms(5'000)};
    options.disk = disk;
    options.disk_capacity_bytes = disk ? 2 * kMiB : 0;
    options.scrub_interval = Duration::from_ms(disk ? 3'000 : 0);
    return options;
  }
  CallId call() {
    open_.insert(next_call_);
    return next_call_++;
  }

  std::optional<MemoryServerEvent> event_of(const Record& record) {
    switch (record.kind % 9) {
      case 0:
        if (auto ask = fuzz::message<v1::GrantRequest>(record)) {
          fuzz::fold(ask->ids);
          return GrantAsked{call(), std::move(ask->ids), std::min(ask->wait, Duration::from_ms(2'000))};
        }
        return std::nullopt;
      case 1:
        if (auto ask = fuzz::message<v1::OpenSlabRequest>(record)) return SlabAsked{call(), ask->size_bytes, std::move(ask->writer)};
        return std::nullopt;
      case 2: return seal(record);
      case 3: return AbandonAsked{call(), slab(record.number()), 7};
      case 4: {
        BlocksDropped dropped;
        for (const char c : record.bytes) dropped.ids.push_back(Digest{{static_cast<uint8_t>(c)}});
        fuzz::fold(dropped.ids);
        return dropped;
      }
      case 5: return LineageTold{record.number(), record.who};
      case 6: {
        MemberReport report;
        server_.fill_report(now_, record.who % 2 == 0, report);
        return std::nullopt;
      }
      case 7: pass(Duration::from_ms(static_cast<int64_t>(record.number() % 3'000))); return std::nullopt;
      case 8: return ordered(record);
    }
    return std::nullopt;
  }
  std::optional<MemoryServerEvent> seal(const Record& record) {
    auto ask = fuzz::message<v1::SealSlabRequest>(record);
    if (!ask) return std::nullopt;
    for (SealRange& range : ask->ranges) fuzz::fold(range.block);
    return SealAsked{call(), slab(ask->slab), record.who % 16 == 15 ? ask->incarnation : 7, std::move(ask->ranges)};
  }
  // What the controller wants copied here, or, with nothing to copy, looked at.
  std::optional<MemoryServerEvent> ordered(const Record& record) {
    auto directive = fuzz::message<v1::Directive>(record);
    auto* memory = directive ? std::get_if<MemoryDirective>(&*directive) : nullptr;
    if (memory == nullptr) return std::nullopt;
    for (CopyOrder& order : memory->copy) fuzz::fold(order.block);
    fuzz::fold(memory->check);
    if (memory->copy.empty()) return ChecksWanted{std::move(memory->check)};
    return CopiesWanted{std::move(memory->copy), std::move(memory->sources)};
  }
  // Mostly one that is open.
  uint64_t slab(uint64_t asked) const {
    if (registered_.empty() || asked > 64) return asked;
    auto found = registered_.begin();
    std::advance(found, static_cast<ptrdiff_t>(asked % registered_.size()));
    return found->first;
  }

  void step(std::vector<MemoryServerEvent> events) override {
    for (int round = 0; round == 0 || !events.empty(); ++round) {
      CENOTE_CHECK(round < 10'000);
      std::vector<MemoryServerAction> actions;
      server_.step(now_, std::exchange(events, {}), actions);
      for (const MemoryServerAction& action : actions) std::visit([&](const auto& a) { perform(a, events); }, action);
    }
  }
  absl::Status luck(uint8_t bad, const absl::Status& status) const { return luck_ % 16 == bad ? status : absl::OkStatus(); }

  void answered(CallId call) { CENOTE_CHECK(open_.erase(call) == 1); }
  void perform(const GrantReply& a, Events&) {
    answered(a.call);
    if (!a.grant.ok()) return;
    for (const BlockGrant& block : a.grant->blocks) CENOTE_CHECK(block.offset_bytes + block.size_bytes <= options_.block_area_bytes);
  }
  void perform(const SlabReply& a, Events&) {
    answered(a.call);
    if (a.slab.ok()) CENOTE_CHECK(registered_.contains(a.slab->slab) && a.slab->size_bytes <= options_.slab_bytes_max);
  }
  void perform(const SealReply& a, Events&) { answered(a.call); }
  void perform(const AbandonReply& a, Events&) { answered(a.call); }
  void perform(const RegisterSlab& a, Events& events) {
    CENOTE_CHECK(a.size_bytes > 0 && a.offset_bytes + a.size_bytes <= options_.slab_area_bytes);
    for (const auto& [slab, place] : registered_) CENOTE_CHECK(place.first + place.second <= a.offset_bytes || a.offset_bytes + a.size_bytes <= place.first);
    const absl::Status status = luck(1, absl::ResourceExhaustedError("no more keys"));
    if (status.ok()) registered_[a.slab] = {a.offset_bytes, a.size_bytes};
    events.push_back(SlabRegistered{a.slab, status, 100 + a.slab, 0});
  }
  void perform(const UnregisterSlab& a, Events& events) {
    CENOTE_CHECK(registered_.contains(a.slab));
    closing_.insert(registered_.extract(a.slab));
    events.push_back(SlabUnregistered{a.slab});
  }
  void perform(const CopyAndHash& a, Events& events) {
    const auto [offset, size] = closing_.at(a.slab);
    for (const CopyRange& range : a.ranges) {
      CENOTE_CHECK(range.source_offset_bytes >= offset && range.source_offset_bytes + range.block.size_bytes <= offset + size);
      if (range.to_arena) CENOTE_CHECK(range.target_offset_bytes + range.block.size_bytes <= options_.block_area_bytes);
      CENOTE_CHECK(range.to_arena || a.store);
    }
    absl::Status status = luck(2, absl::DataLossError("a range hashes to another block"));
    const bool disk = status.ok() && luck_ % 16 == 3 && a.store;
    if (disk) status = absl::ResourceExhaustedError("the disk is full");
    events.push_back(SealVerified{a.slab, status, disk});
  }
  void perform(const LoadBlock& a, Events& events) {
    CENOTE_CHECK(options_.disk && a.target_offset_bytes + a.block.size_bytes <= options_.block_area_bytes);
    absl::Status status = luck(4, absl::DataLossError("another hash"));
    if (status.ok()) status = luck(5, absl::UnavailableError("the disk does not answer"));
    events.push_back(BlockLoaded{a.block.id, status});
  }
  void perform(const RemoveBlocks& a, Events&) { CENOTE_CHECK(options_.disk && !a.ids.empty()); }
  void perform(const StoreBlock& a, Events& events) { events.push_back(BlockStored{a.block.id, luck(6, absl::DataLossError("the arena's copy"))}); }
  void perform(const RememberLineage&, Events&) {}
  void perform(const FetchCopy& a, Events& events) {
    CENOTE_CHECK(a.target_offset_bytes + a.block.size_bytes <= options_.block_area_bytes);
    events.push_back(CopyFetched{a.block.id, luck(9, absl::UnavailableError("the source is gone"))});
  }
  void perform(const CheckCopy& a, Events& events) {
    CENOTE_CHECK(a.offset_bytes + a.block.size_bytes <= options_.block_area_bytes);
    events.push_back(CopyChecked{a.block.id, luck(10, absl::DataLossError("another block")), false});
  }
  void perform(const ScrubBlock& a, Events& events) {
    CENOTE_CHECK(a.disk || a.arena_offset_bytes);
    events.push_back(BlockScrubbed{a.disk ? luck(7, absl::DataLossError("rot")) : absl::OkStatus(),
                                   a.arena_offset_bytes ? luck(8, absl::DataLossError("rot")) : absl::OkStatus()});
  }

  void check() {
    MemberReport report;
    server_.fill_report(now_, true, report);
    CENOTE_CHECK(report.memory.used_bytes <= report.memory.capacity_bytes);
    std::set<Digest> held;
    for (const BlockRef& block : report.held) CENOTE_CHECK(held.insert(block.id).second && block.size_bytes == 4096u * block.id.bytes[0]);
  }

  const MemoryServerOptions options_;
  MemoryServer server_;
  uint8_t luck_ = 0;
  CallId next_call_ = 1;
  std::set<CallId> open_;
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> registered_, closing_;  // Slab -> offset and size.
};

}  // namespace
}  // namespace cenote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  cenote::World world(data[0] % 2 == 1);
  return cenote::fuzz::play({data + 1, size - 1}, world);
}
