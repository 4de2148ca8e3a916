// A script of what peers send: records of u8 kind, u8 who, u16 length and the bytes of a protobuf message, taken through the same
// conversions and bounds as what comes over the wire, so that a role's state machine meets what a hostile but well-formed peer may say.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/status.h"
#include "message/record.h"
#include "wire/convert_control.h"
#include "wire/convert_infer.h"
#include "wire/convert_link.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"
#include "wire/grpc_log.h"

namespace cenote::fuzz {

struct Record {
  uint8_t kind = 0;
  uint8_t who = 0;
  std::string bytes;

  uint64_t number() const {
    ByteReader in(bytes);
    return in.left() >= 8 ? in.u64() : in.left() > 0 ? in.u8() : 0;
  }
};

class Script {
 public:
  Script(const uint8_t* data, size_t size) : in_(std::string_view(reinterpret_cast<const char*>(data), size)) {}

  std::optional<Record> next() {
    if (in_.left() < 4 || ++records_ > kRecordsMax) return std::nullopt;
    Record record{.kind = in_.u8(), .who = in_.u8(), .bytes = {}};
    const size_t length = in_.u8() | in_.u8() << 8;
    record.bytes.resize(std::min(length, in_.left()));
    in_.raw(record.bytes.data(), record.bytes.size());
    return record;
  }

 private:
  static constexpr int kRecordsMax = 64;
  ByteReader in_;
  int records_ = 0;
};

// The message of a record, if it is one that the wire lets pass.
template <typename Proto>
auto message(const Record& record) {
  wire::quiet_grpc_log();
  Proto proto;
  const bool parsed = proto.ParseFromString(record.bytes);
  using Result = std::decay_t<decltype(*wire::from_proto(std::move(proto)))>;
  std::optional<Result> found;
  if (!parsed) return found;
  auto converted = wire::from_proto(std::move(proto));
  if (converted.ok()) found = *std::move(converted);
  return found;
}

// Digests become few, so that messages meet each other's: one of sixteen, the same for the same first byte.
inline void fold(Digest& digest) {
  if (!digest.empty()) digest = Digest{{static_cast<uint8_t>(digest.bytes[0] % 16 + 1)}};
}
inline void fold(BlockRef& block) {
  fold(block.id);
  if (!block.id.empty()) block.size_bytes = 4096u * block.id.bytes[0];  // One id has one size: it is the hash of its bytes.
}
template <typename T>
void fold(std::vector<T>& all) {
  for (T& one : all) fold(one);
}
inline void fold(RevisionRecord& record) {
  fold(record.digest);
  fold(record.manifest_blocks);
  fold(record.blocks);
  fold(record.file_blocks);
  fold(record.label);
  record.weight_bytes = 0;
  for (const BlockRef& block : record.blocks) record.weight_bytes += block.size_bytes;
}

// And few requests.
inline void fold(RequestId& id) { id = {.high = 1, .low = id.low % 16}; }

// What surrounds one role's state machine: its time, and what it is told.
template <typename Event>
class Surroundings {
 protected:
  ~Surroundings() = default;
  virtual void step(std::vector<Event> events) = 0;
  void pass(Duration duration) {
    now_ = now_ + duration;
    step({});
  }
  void feed(Event event) {
    std::vector<Event> events;
    events.push_back(std::move(event));
    step(std::move(events));
  }

  Instant now_{1'000'000'000};
};

template <typename World>
int play(Script script, World& world) {
  while (const auto record = script.next()) world.play(*record);
  world.end();
  return 0;
}

}  // namespace cenote::fuzz
