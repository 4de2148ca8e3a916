// Goal: a backup is believed only if its checksum fits, its events decode and follow each other, and they make the catalogue that its
// fingerprint names; whatever else is there is refused as damaged, newer, or no backup.
// Input: a backup without its checksum, tried as it is and again with the magic, the version and a checksum that fits.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/status.h"
#include "store/backup.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cenote;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  CENOTE_CHECK(!check_backup(bytes).ok());  // Nobody finds a SHA-256 by chance.
  if (size < 12) return 0;
  std::memcpy(bytes.data(), "CENOTEB1\1\0\0\0", 12);
  const Digest sum = sha256(as_bytes(bytes));
  bytes.append(reinterpret_cast<const char*>(sum.bytes.data()), sum.bytes.size());
  const auto info = check_backup(bytes);
  if (!info.ok()) {
    CENOTE_CHECK(absl::IsDataLoss(info.status()) || absl::IsFailedPrecondition(info.status()));
    return 0;
  }
  CENOTE_CHECK(info->cluster.size() <= 512 && info->revisions <= info->events);
  // Of what was taken, no byte can be another.
  bytes[size / 2] = static_cast<char>(bytes[size / 2] ^ 1);
  CENOTE_CHECK(absl::IsDataLoss(check_backup(bytes).status()));
  return 0;
}
