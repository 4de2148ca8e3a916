#include "store/backup.h"

#include <filesystem>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/status.h"
#include "base/text.h"
#include "catalog/catalogue.h"
#include "store/event_store.h"

namespace cenote {
namespace {

constexpr std::string_view kMagic = "CENOTEB1";
constexpr uint32_t kVersion = 1;
constexpr size_t kClusterBytesMax = 512;
constexpr size_t kDigestBytes = 32;
constexpr size_t kAppendBytes = 16 << 20;  // Of a restore's batches.

absl::Status damaged(std::string_view what) { return absl::DataLossError(str_cat("backup: ", what, ": it is damaged; use another one")); }

struct Decoded {
  BackupInfo info;
  std::vector<CatalogueEvent> events;
  Catalogue catalogue;
};

absl::StatusOr<Decoded> decode(std::string_view bytes) {
  if (bytes.size() < kMagic.size() + 4 + kDigestBytes || !bytes.starts_with(kMagic)) {
    return absl::InvalidArgumentError(str_cat("not a backup of a catalogue: it does not begin with ", kMagic));
  }
  if (bytes.size() > kBackupBytesMax) return absl::InvalidArgumentError(str_cat("a backup of ", bytes.size(), " bytes, at most ", kBackupBytesMax));
  const std::string_view body = bytes.substr(0, bytes.size() - kDigestBytes);
  const Digest sum = sha256(as_bytes(body));
  ByteReader in(body.substr(kMagic.size()));
  if (const uint32_t version = in.u32(); version > kVersion) {
    return absl::FailedPreconditionError(str_cat("backup: version ", version, ", this Cenote reads ", kVersion, ": use the Cenote that wrote it"));
  }
  if (std::string_view(reinterpret_cast<const char*>(sum.bytes.data()), kDigestBytes) != bytes.substr(body.size())) return damaged("its checksum differs");
  Decoded decoded;
  BackupInfo& info = decoded.info;
  info.cluster = in.text(kClusterBytesMax);
  info.created_us = in.i64();
  info.sequence = in.u64();
  in.raw(info.fingerprint.bytes.data(), kDigestBytes);
  info.events = in.u64();
  for (uint64_t i = 0; i < info.events && in.ok(); ++i) {
    const absl::StatusOr<CatalogueEvent> event = decode_event(in.text(kEventBytesMax));
    if (absl::IsFailedPrecondition(event.status())) return event.status();
    if (!event.ok() || !decoded.catalogue.apply(*event).ok()) return damaged(str_cat("event ", i, " does not decode or does not fit those before it"));
    decoded.events.push_back(*event);
  }
  if (!in.done()) return damaged("truncated, or bytes left over");
  if (decoded.catalogue.fingerprint() != info.fingerprint) return damaged("it does not make the catalogue that it was made of");
  info.revisions = decoded.catalogue.revisions().size();
  return decoded;
}

}  // namespace

absl::StatusOr<Backup> make_backup(const std::string& cluster, int64_t created_us, uint64_t sequence, std::span<const std::string> events) {
  Catalogue catalogue;
  for (const std::string& bytes : events) {
    CENOTE_ASSIGN_OR_RETURN(const CatalogueEvent event, decode_event(bytes));
    if (const absl::Status applied = catalogue.apply(event); !applied.ok()) {
      return absl::DataLossError(str_cat("the catalogue's event (", describe_event(event), ") does not fit those before it: ", to_std(applied.message())));
    }
  }
  const std::vector<CatalogueEvent> snapshot = catalogue.as_events();
  Backup backup{.info = {.cluster = cluster, .created_us = created_us, .sequence = sequence, .fingerprint = catalogue.fingerprint(), .events = snapshot.size(),
                         .revisions = catalogue.revisions().size()},
                .bytes = {}};
  ByteWriter out;
  out.raw(kMagic.data(), kMagic.size());
  out.u32(kVersion);
  out.text(cluster);
  out.i64(created_us);
  out.u64(sequence);
  out.raw(backup.info.fingerprint.bytes.data(), kDigestBytes);
  out.u64(snapshot.size());
  for (const CatalogueEvent& event : snapshot) out.text(encode_event(event));
  backup.bytes = out.take();
  const Digest sum = sha256(as_bytes(backup.bytes));
  backup.bytes.append(reinterpret_cast<const char*>(sum.bytes.data()), kDigestBytes);
  return backup;
}

absl::StatusOr<BackupInfo> check_backup(std::string_view bytes) {
  CENOTE_ASSIGN_OR_RETURN(const Decoded decoded, decode(bytes));
  return decoded.info;
}

absl::Status restore_backup(std::string_view bytes, const std::string& path, uint64_t lineage) {
  CENOTE_ASSIGN_OR_RETURN(Decoded decoded, decode(bytes));
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return absl::AlreadyExistsError(str_cat(path, " is there already"));
  decoded.events.emplace_back(LineageSet{lineage, "the catalogue was restored from a backup: they may hold what was deployed after it"});
  CENOTE_ASSIGN_OR_RETURN(const std::unique_ptr<EventStore> store, open_sqlite_store(path));
  for (std::span<const CatalogueEvent> left(decoded.events); !left.empty();) {
    size_t count = 0, size = 0;
    while (count < left.size() && count < kEventsPerAppendMax && size < kAppendBytes) size += encode_event(left[count++]).size();
    CENOTE_RETURN_IF_ERROR(store->append(left.first(count)).status());
    left = left.subspan(count);
  }
  return absl::OkStatus();
}

absl::Status close_catalogue(const std::string& path) {
  return open_sqlite_store(path).status();
}

}  // namespace cenote
