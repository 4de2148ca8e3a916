// base/ids.h - identities: content digests, request ids, incarnations.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace cenote {

// SHA-256 of a block's or a manifest's bytes. Value type, 32 bytes, ordered bytewise.
struct Digest {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
  bool empty() const { return *this == Digest{}; }
  std::string hex() const;
  std::string short_hex() const { return hex().substr(0, 12); }  // For people.
  // kInvalidArgument unless `hex` is 64 hexadecimal digits.
  static absl::StatusOr<Digest> from_hex(std::string_view hex);
};

// Chosen by whoever first holds a request; executors drop a second arrival of the same id.
struct RequestId {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const RequestId&) const = default;
  std::string hex() const;
};

// Random id of a process start (never 0). A message from another incarnation is from a process that no longer exists.
using Incarnation = uint64_t;

// Operating system randomness; aborts if the system has none.
uint64_t random_u64();
Incarnation new_incarnation();
RequestId new_request_id();

}  // namespace cenote

template <>
struct std::hash<cenote::Digest> {
  size_t operator()(const cenote::Digest& d) const noexcept {
    size_t h;
    std::memcpy(&h, d.bytes.data(), sizeof h);
    return h;
  }
};
template <>
struct std::hash<cenote::RequestId> {
  size_t operator()(const cenote::RequestId& id) const noexcept { return static_cast<size_t>(id.high ^ id.low); }
};
