#include "base/ids.h"

#include <sys/random.h>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace cenote {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(64);
  for (uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

absl::StatusOr<Digest> Digest::from_hex(std::string_view hex) {
  if (hex.size() != 64) {
    return absl::InvalidArgumentError(str_cat("digest: ", hex.size(), " characters, a SHA-256 has 64"));
  }
  Digest digest;
  for (size_t i = 0; i < 32; ++i) {
    const int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return absl::InvalidArgumentError(str_cat("digest: '", hex, "' is not hexadecimal"));
    digest.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return digest;
}

std::string RequestId::hex() const { return absl::StrFormat("%016x%016x", high, low); }

uint64_t random_u64() {
  uint64_t value = 0;
  CENOTE_CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

Incarnation new_incarnation() {
  Incarnation id = 0;
  while (id == 0) id = random_u64();
  return id;
}

RequestId new_request_id() { return {random_u64(), random_u64()}; }

}  // namespace cenote
