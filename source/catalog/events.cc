#include "catalog/events.h"

#include "base/bytes.h"
#include "base/status.h"
#include "base/text.h"
#include "catalog/manifest.h"
#include "catalog/names.h"
#include "message/caller.h"

namespace cenote {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kFilterBytesMax = 4096;

void write(ByteWriter& out, const Digest& digest) {
  out.raw(digest.bytes.data(), digest.bytes.size());
}
void write(ByteWriter& out, const BlockRef& block) {
  write(out, block.id);
  out.u32(block.size_bytes);
}
template <typename T>
void write(ByteWriter& out, const std::vector<T>& list) {
  out.u32(static_cast<uint32_t>(list.size()));
  for (const T& item : list) write(out, item);
}

void write(ByteWriter& out, const RevisionSealed& event) {
  const RevisionRecord& record = event.record;
  write(out, record.digest);
  out.text(record.name);
  out.u64(record.manifest_bytes);
  write(out, record.manifest_blocks);
  write(out, record.blocks);
  write(out, record.file_blocks);
  out.u64(record.weight_bytes);
  out.i64(record.created_us);
  out.text(record.device_filter);
}
void write(ByteWriter& out, const TagMoved& event) {
  out.text(event.name);
  out.text(event.tag);
  write(out, event.revision);
  out.u8(event.rollback);
}
void write(ByteWriter& out, const TagRemoved& event) {
  out.text(event.name);
  out.text(event.tag);
}
void write(ByteWriter& out, const RevisionRemoved& event) {
  out.text(event.name);
  write(out, event.revision);
}
void write(ByteWriter& out, const ReplicasAdded& event) {
  out.text(event.server);
  write(out, event.blocks);
}
void write(ByteWriter& out, const ReplicasLost& event) {
  out.text(event.server);
  out.u8(event.all);
  write(out, event.blocks);
}
void write(ByteWriter& out, const PrefetchSet& event) {
  write(out, event.revision);
  out.u8(event.wanted);
}
void write(ByteWriter& out, const OperationDone& event) {
  out.text(event.id);
  write(out, event.request);
  out.text(event.name);
  out.text(event.tag);
  write(out, event.revision);
  write(out, event.previous);
  out.u8(event.nothing_new);
  write(out, event.revisions);
  out.u64(event.freed_bytes);
}
void write(ByteWriter& out, const LineageSet& event) {
  out.u64(event.lineage);
  out.text(event.held_because);
}
void write(ByteWriter& out, const RevisionLabelled& event) {
  out.text(event.name);
  write(out, event.revision);
  write(out, event.label);
}
void write(ByteWriter& out, const NameOwned& event) {
  out.text(event.name);
  out.text(event.tenant);
}

// Readers leave a failed ByteReader behind for whatever does not fit.
void read(ByteReader& in, Digest& digest) {
  in.raw(digest.bytes.data(), digest.bytes.size());
}
void read(ByteReader& in, BlockRef& block) {
  read(in, block.id);
  block.size_bytes = in.u32();
}
template <typename T>
void read(ByteReader& in, std::vector<T>& list) {
  constexpr size_t kItemBytes = std::is_same_v<T, Digest> ? 32 : 36;
  const uint32_t count = in.u32();
  if (count > in.left() / kItemBytes) return in.fail();
  list.resize(count);
  for (T& item : list) read(in, item);
}
void read(ByteReader& in, bool& flag) {
  const uint8_t value = in.u8();
  if (value > 1) in.fail();
  flag = value == 1;
}

void read(ByteReader& in, RevisionSealed& event) {
  RevisionRecord& record = event.record;
  read(in, record.digest);
  record.name = in.text(kModelNameBytesMax);
  record.manifest_bytes = in.u64();
  read(in, record.manifest_blocks);
  read(in, record.blocks);
  read(in, record.file_blocks);
  record.weight_bytes = in.u64();
  record.created_us = in.i64();
  record.device_filter = in.text(kFilterBytesMax);
}
void read(ByteReader& in, TagMoved& event) {
  event.name = in.text(kModelNameBytesMax);
  event.tag = in.text(kTagBytesMax);
  read(in, event.revision);
  read(in, event.rollback);
}
void read(ByteReader& in, TagRemoved& event) {
  event.name = in.text(kModelNameBytesMax);
  event.tag = in.text(kTagBytesMax);
}
void read(ByteReader& in, RevisionRemoved& event) {
  event.name = in.text(kModelNameBytesMax);
  read(in, event.revision);
}
void read(ByteReader& in, ReplicasAdded& event) {
  event.server = in.text(kServerNameBytesMax);
  read(in, event.blocks);
}
void read(ByteReader& in, ReplicasLost& event) {
  event.server = in.text(kServerNameBytesMax);
  read(in, event.all);
  read(in, event.blocks);
}
void read(ByteReader& in, PrefetchSet& event) {
  read(in, event.revision);
  read(in, event.wanted);
}
void read(ByteReader& in, OperationDone& event) {
  event.id = in.text(kOperationIdBytes);
  read(in, event.request);
  event.name = in.text(kModelNameBytesMax);
  event.tag = in.text(kTagBytesMax);
  read(in, event.revision);
  read(in, event.previous);
  read(in, event.nothing_new);
  read(in, event.revisions);
  event.freed_bytes = in.u64();
}
void read(ByteReader& in, LineageSet& event) {
  event.lineage = in.u64();
  event.held_because = in.text(kHeldBecauseBytesMax);
}
void read(ByteReader& in, RevisionLabelled& event) {
  event.name = in.text(kModelNameBytesMax);
  read(in, event.revision);
  read(in, event.label);
}

void read(ByteReader& in, NameOwned& event) {
  event.name = in.text(kModelNameBytesMax);
  event.tenant = in.text(kTenantBytesMax);
}

template <size_t... I>
bool make_event(size_t index, CatalogueEvent& event, std::index_sequence<I...>) {
  return ((index == I && (event.emplace<I>(), true)) || ...);
}

}  // namespace

std::string encode_event(const CatalogueEvent& event) {
  ByteWriter out;
  out.u8(kVersion);
  out.u8(static_cast<uint8_t>(event.index() + 1));
  std::visit([&](const auto& e) { write(out, e); }, event);
  return out.take();
}

absl::StatusOr<CatalogueEvent> decode_event(std::string_view bytes) {
  if (bytes.size() > kEventBytesMax) {
    return absl::InvalidArgumentError(str_cat("event: ", bytes.size(), " bytes, at most ", kEventBytesMax));
  }
  ByteReader in(bytes);
  const uint8_t version = in.u8(), type = in.u8();
  if (!in.ok()) return absl::InvalidArgumentError(str_cat("event: ", bytes.size(), " bytes are too few"));
  CatalogueEvent event;
  constexpr size_t kTypes = std::variant_size_v<CatalogueEvent>;
  if (version == 0 || type == 0)
    return absl::InvalidArgumentError(str_cat("event: version ", version, ", type ", type, ": not an event"));
  if (version > kVersion || !make_event(type - 1, event, std::make_index_sequence<kTypes>())) {
    return absl::FailedPreconditionError(str_cat("event: version ", version, ", type ", type,
                                                 ", this Cenote reads version ", kVersion, ", types up to ",
                                                 kTypes, ": use the Cenote that wrote it"));
  }
  std::visit([&](auto& e) { read(in, e); }, event);
  if (!in.done())
    return absl::InvalidArgumentError(str_cat(
        "event of type ", type, ": ", in.ok() ? "bytes left over" : "truncated, or a length out of bounds"));
  CENOTE_RETURN_IF_ERROR(check_event(event));
  return event;
}

}  // namespace cenote
