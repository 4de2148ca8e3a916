#include "wire/bounds.h"

#include <cstring>

#include "base/status.h"

namespace cenote::wire {

absl::Status check_count(std::string_view field, uint64_t count, uint64_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(str_cat(field, ": ", count, " entries, at most ", limit, " are allowed"));
}

absl::Status check_text(std::string_view field, std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return absl::OkStatus();
  return absl::InvalidArgumentError(str_cat(field, ": ", text.size(), " bytes, at most ", bytes_max, " are allowed"));
}

absl::StatusOr<Digest> digest_of(std::string_view field, std::string_view bytes, bool may_be_empty) {
  Digest digest;
  if (bytes.empty() && may_be_empty) return digest;
  if (bytes.size() != digest.bytes.size()) {
    return absl::InvalidArgumentError(str_cat(field, ": ", bytes.size(), " bytes, a digest has 32"));
  }
  std::memcpy(digest.bytes.data(), bytes.data(), bytes.size());
  if (digest.empty() && !may_be_empty) return absl::InvalidArgumentError(str_cat(field, ": 32 zero bytes, which stand for no digest"));
  return digest;
}

std::string digest_bytes(const Digest& digest) {
  if (digest.empty()) return {};
  return std::string(reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size());
}

absl::StatusOr<Duration> duration_of(std::string_view field, int64_t us) {
  if (us < 0 || us > kDurationUsMax) {
    return absl::InvalidArgumentError(str_cat(field, ": ", us, " us, allowed are 0 to ", kDurationUsMax));
  }
  return Duration::from_us(us);
}

}  // namespace cenote::wire
