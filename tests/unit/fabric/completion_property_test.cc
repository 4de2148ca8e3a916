// Goal: whatever faults and destructions happen, each accepted operation of a living endpoint completes exactly once, by its
// deadline, and kOk without corruption means the right bytes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "fabric/faulty/faulty.h"
#include "serving_target.h"

namespace cenote::fabric {
namespace {

constexpr size_t kSlots = 48;
constexpr size_t kSlotBytes = 512;

struct Posted {
  size_t endpoint;
  Instant deadline;
  bool write;
};

struct World {
  explicit World(FaultPlan plan)
      : transport(std::make_unique<FaultyTransport>(open_for_test("loopback"), std::move(plan))), bytes(kSlots * kSlotBytes) {
    region = *transport->register_memory(bytes, Access::kLocal);
    for (size_t i = 0; i < targets.size(); ++i) {
      keys.push_back(targets[i].add_region(kSlots * kSlotBytes, Access::kRemoteReadWrite, 1));
      endpoints.push_back(*transport->connect(targets[i].address()));
    }
  }
  std::array<ServingTarget, 2> targets{ServingTarget("loopback"), ServingTarget("loopback")};
  std::unique_ptr<FaultyTransport> transport;
  std::vector<std::byte> bytes;
  std::unique_ptr<MemoryRegion> region;
  std::vector<RegionKey> keys;
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  std::map<Tag, Posted> outstanding;
  Tag next_tag = 0;
};

void post(World& world, size_t to, bool write, int64_t deadline_ms) {
  if (world.outstanding.size() >= kSlots) return;
  const Tag tag = world.next_tag++;
  const uint64_t offset = tag % kSlots * kSlotBytes;
  for (const auto& [other, posted] : world.outstanding) {
    if (other % kSlots == tag % kSlots) return;  // Its slot is still the transport's.
  }
  const Instant deadline = in_ms(deadline_ms);
  // Writes write what is there already, so that reads can be checked.
  const auto source = pattern(kSlots * kSlotBytes, 1);
  if (write) {
    std::copy_n(source.begin() + static_cast<ptrdiff_t>(offset), kSlotBytes, world.bytes.begin() + static_cast<ptrdiff_t>(offset));
  } else {
    std::fill_n(world.bytes.begin() + static_cast<ptrdiff_t>(offset), kSlotBytes, std::byte{0});
  }
  const RemoteSpan remote{world.keys[to], offset, kSlotBytes};
  const LocalSpan local{world.region.get(), offset, kSlotBytes};
  const bool was_broken = world.endpoints[to]->broken();
  const absl::Status status = write ? world.endpoints[to]->write(remote, local, tag, deadline)
                                    : world.endpoints[to]->read(remote, local, tag, deadline);
  if (status.ok()) {
    RC_ASSERT(!was_broken);
    world.outstanding.emplace(tag, Posted{to, deadline, write});
  } else {
    RC_ASSERT(absl::IsUnavailable(status));
    RC_ASSERT(world.endpoints[to]->broken());
  }
}

void poll(World& world, bool bytes_are_checked) {
  std::array<Completion, 5> completions;
  const size_t count = world.transport->poll(completions);
  for (size_t i = 0; i < count; ++i) {
    const auto found = world.outstanding.find(completions[i].tag);
    RC_ASSERT(found != world.outstanding.end());  // Else twice, or never posted.
    const uint64_t offset = completions[i].tag % kSlots * kSlotBytes;
    if (completions[i].code == absl::StatusCode::kOk && bytes_are_checked) {
      for (size_t b = 0; b < kSlotBytes; ++b) RC_ASSERT(world.bytes[offset + b] == pattern_byte(offset + b, 1));
    }
    if (completions[i].code == absl::StatusCode::kDeadlineExceeded) {
      RC_ASSERT(found->second.deadline <= monotonic_now());
    }
    if (completions[i].code != absl::StatusCode::kOk) {
      RC_ASSERT(world.endpoints[found->second.endpoint]->broken());
    }
    world.outstanding.erase(found);
  }
}

void reconnect(World& world, size_t which) {
  world.endpoints[which].reset();
  std::erase_if(world.outstanding, [which](const auto& entry) { return entry.second.endpoint == which; });
  world.transport->revive_peer(world.targets[which].address());
  world.endpoints[which] = *world.transport->connect(world.targets[which].address());
}

RC_GTEST_PROP(Completions, come_exactly_once_whatever_happens, ()) {
  FaultPlan plan;
  plan.seed = *rc::gen::arbitrary<uint64_t>();
  const bool corrupting = *rc::gen::arbitrary<bool>();
  plan.delay_chance = 0.2;
  plan.error_chance = 0.05;
  plan.silence_chance = 0.05;
  plan.corrupt_chance = corrupting ? 0.2 : 0;
  plan.death_chance = 0.03;
  World world(plan);
  const auto steps = *rc::gen::container<std::vector<std::pair<uint8_t, uint8_t>>>(
      rc::gen::pair(rc::gen::inRange<uint8_t>(0, 20), rc::gen::arbitrary<uint8_t>()));
  for (const auto& [what, detail] : steps) {
    const size_t which = detail % 2;
    if (what < 12) {
      post(world, which, (detail & 2) != 0, (detail & 4) != 0 ? 20 : 60);
    } else if (what < 16) {
      poll(world, !corrupting);
    } else if (what < 17) {
      world.transport->wait(Duration::from_ms(2));
    } else if (what < 18) {
      world.transport->kill_peer(world.targets[which].address());
    } else {
      reconnect(world, which);
    }
  }
  const Instant limit = in_ms(20'000);
  while (!world.outstanding.empty() && monotonic_now() < limit) {
    poll(world, !corrupting);
    if (!world.outstanding.empty()) world.transport->wait(Duration::from_ms(1000));
  }
  RC_ASSERT(world.outstanding.empty());
  for (const auto& endpoint : world.endpoints) RC_ASSERT(endpoint->in_flight() == 0u);
  Completion extra;
  RC_ASSERT(world.transport->poll({&extra, 1}) == 0u);
  world.endpoints.clear();
}

}  // namespace
}  // namespace cenote::fabric
