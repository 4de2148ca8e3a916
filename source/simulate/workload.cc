#include "simulate/workload.h"

#include "base/status.h"

namespace cenote::simulate {
namespace {

constexpr uint64_t kSharedBlocks = 6;   // Of each name: its revisions have some in common.

// Differs in its first bytes, as real digests do.
Digest made_up(uint64_t kind, uint64_t number) {
  Rng rng(kind << 32 | number);
  Digest digest;
  for (uint8_t& byte : digest.bytes) byte = static_cast<uint8_t>(rng.next());
  return digest;
}

BlockRef block(uint64_t number) {
  constexpr uint32_t kSizes[] = {4096, 4096 * 75, 1 << 20, (1 << 20) + 512, 4 << 20, 3 << 20};
  return {.id = made_up(1, number), .size_bytes = kSizes[number * 2654435761u % 6]};
}

}  // namespace

Workload::Workload(Cluster& cluster, World& world) : cluster_(cluster), world_(world), names_(1 + world.draw(6)) {}

RevisionRecord Workload::make_record(uint64_t name) {
  const uint64_t number = next_revision_++;
  RevisionRecord record{.digest = made_up(2, number), .name = str_cat("model-", name), .created_us = 1'700'000'000'000'000 + world_.now().ns / 1'000};
  for (uint64_t i = 0, count = 1 + world_.draw(5); i < count; ++i) {
    const bool shared = world_.chance(50);
    record.blocks.push_back(block(shared ? name * kSharedBlocks + world_.draw(kSharedBlocks) : 1000 + number * 10 + i));
    record.weight_bytes += record.blocks.back().size_bytes;
  }
  // A manifest of one block is hashed as such; one of two is checked as a whole.
  record.manifest_blocks.push_back({.id = world_.chance(70) ? record.digest : made_up(3, number), .size_bytes = 8192});
  if (record.manifest_blocks.front().id != record.digest) record.manifest_blocks.push_back({.id = made_up(4, number), .size_bytes = 700});
  for (const BlockRef& manifest : record.manifest_blocks) record.manifest_bytes += manifest.size_bytes;
  return record;
}

void Workload::deploy(uint64_t name, bool update) {
  cluster_.person(name).deploy(make_record(name), std::string(kDefaultTag), update);
}

void Workload::first_deploys() {
  for (uint64_t name = 0; name < names_; ++name) deploy(name, false);
}

// Names belong to one person each, so that what he was told last is what must be so.
void Workload::manage() {
  const uint64_t name = world_.draw(names_);
  OperatorNode& person = cluster_.person(name);
  const std::string model = str_cat("model-", name);
  switch (world_.draw(10)) {
    case 0: case 1: case 2: case 3: return deploy(name, true);
    case 4: return deploy(name, false);
    case 5: {
      const auto& revisions = cluster_.truth().disk.durable.revisions();
      for (const auto& [digest, entry] : revisions) {
        if (entry.names.contains(model) && world_.chance(50)) return person.publish(str_cat(model, "@", digest.hex().substr(0, 16)), world_.chance(50) ? "stable" : "latest");
      }
      return;
    }
    case 6: return person.rollback(model);
    case 7: return person.evict(model);
    case 8: return person.remove(model);
    default: {
      const std::vector<std::string> members = cluster_.drainable();
      return person.drain(members[world_.draw(members.size())]);
    }
  }
}

std::string Workload::any_model() {
  const std::string name = str_cat("model-", world_.draw(names_ + (world_.chance(5) ? 1 : 0)));
  const uint64_t how = world_.draw(20);
  if (how < 15) return name;
  if (how < 17) return name + ":stable";
  for (const auto& [digest, entry] : cluster_.truth().disk.durable.revisions()) {
    if (entry.names.contains(name)) return str_cat(name, "@", digest.hex().substr(0, 12));
  }
  return name;
}

void Workload::call(Instant patience_end) {
  ClientNode& client = cluster_.client(world_.draw(cluster_.clients()));
  if (world_.chance(6)) return client.cancel_one(world_.draw(64));
  const uint64_t payload = world_.chance(30) ? kInlinePayloadBytesMax + 1 + world_.draw(1 << 20) : world_.draw(kInlinePayloadBytesMax);
  const std::string model = any_model();
  if (world_.chance(5)) return client.submit(model, payload, patience_end - world_.now(), ClientNode::Kind::kPatient);
  client.submit(model, payload, world_.draw(Duration::from_ms(300), Duration::from_ms(12'000)), ClientNode::Kind::kAny);
}

void Workload::probe() {
  for (const TagView& tag : cluster_.truth().disk.durable.tag_views()) {
    if (!cluster_.can_be_fetched(tag.revision)) continue;
    // One after the other, so that no queue is full.
    world_.after(world_.draw(Duration{}, kProbeFor), [this, model = str_cat(tag.name, ":", tag.tag), large = world_.chance(50), client = world_.draw(2)] {
      cluster_.client(client).submit(model, large ? 2 * kInlinePayloadBytesMax : 100, kProbeDeadline, ClientNode::Kind::kMustSucceed);
    });
  }
}

void Workload::remove_all() {
  for (uint64_t name = 0; name < names_; ++name) cluster_.person(name).remove(str_cat("model-", name));
}

bool Workload::idle() const {
  for (size_t i = 0; i < cluster_.operators(); ++i) {
    if (!cluster_.person(i).idle()) return false;
  }
  return true;
}

}  // namespace cenote::simulate
