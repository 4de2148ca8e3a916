// What an event must be whatever the catalogue holds, and how it reads.
#include <map>

#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"
#include "catalog/events.h"
#include "catalog/manifest.h"
#include "catalog/names.h"
#include "message/caller.h"

namespace cenote {
namespace {

absl::Status bad(std::string_view what) {
  return absl::InvalidArgumentError(str_cat("event: ", what));
}

absl::Status check_server(std::string_view server) {
  if (server.empty() || server.size() > kServerNameBytesMax || !plain_utf8(server)) {
    return bad(
        str_cat("a server's name of ", server.size(), " bytes, plain text of 1 to ", kServerNameBytesMax));
  }
  return absl::OkStatus();
}

// Sizes within bounds, and one size for each id.
absl::Status check_refs(const std::vector<BlockRef>& blocks, std::map<Digest, uint32_t>& sizes,
                        uint64_t& sum) {
  if (blocks.size() > kEventBlocksMax)
    return bad(str_cat(blocks.size(), " blocks, at most ", kEventBlocksMax));
  for (const BlockRef& block : blocks) {
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax) {
      return bad(str_cat("block ", block.id.short_hex(), " has ", block.size_bytes, " bytes, 1 to ",
                         kBlockBytesMax));
    }
    if (block.id.empty()) return bad("a block without id");
    if (const auto [known, fresh] = sizes.emplace(block.id, block.size_bytes);
        !fresh && known->second != block.size_bytes) {
      return bad(str_cat("block ", block.id.short_hex(), " has ", block.size_bytes, " bytes here and ",
                         known->second, " there"));
    }
    sum += block.size_bytes;
  }
  return absl::OkStatus();
}

absl::Status check_one(const RevisionSealed& event) {
  const RevisionRecord& record = event.record;
  CENOTE_RETURN_IF_ERROR(check_model_name(record.name));
  if (record.digest.empty()) return bad("a revision without digest");
  if (!record.label.id.empty()) return bad("a label within a record: it is an event of its own");
  std::map<Digest, uint32_t> sizes;
  uint64_t manifest = 0, weights = 0, files = 0;
  CENOTE_RETURN_IF_ERROR(check_refs(record.manifest_blocks, sizes, manifest));
  CENOTE_RETURN_IF_ERROR(check_refs(record.blocks, sizes, weights));
  CENOTE_RETURN_IF_ERROR(check_refs(record.file_blocks, sizes, files));
  if (manifest != record.manifest_bytes || manifest == 0 || manifest > kManifestBytesMax) {
    return bad(str_cat("a manifest of ", record.manifest_bytes, " bytes in blocks of ", manifest,
                       " bytes, 1 to ", kManifestBytesMax));
  }
  if (weights != record.weight_bytes)
    return bad(str_cat(record.weight_bytes, " bytes of weights in blocks of ", weights));
  if (!plain_utf8(record.device_filter) || record.device_filter.size() > 4096)
    return bad("a device filter that is not plain text of at most 4096 bytes");
  return absl::OkStatus();
}

absl::Status check_one(const TagMoved& event) {
  CENOTE_RETURN_IF_ERROR(check_model_name(event.name));
  if (event.revision.empty()) return bad("a tag without target");
  return check_tag(event.tag);
}

absl::Status check_one(const TagRemoved& event) {
  CENOTE_RETURN_IF_ERROR(check_model_name(event.name));
  return check_tag(event.tag);
}

absl::Status check_one(const RevisionRemoved& event) {
  if (event.revision.empty()) return bad("a removal without digest");
  return check_model_name(event.name);
}

absl::Status check_one(const ReplicasAdded& event) {
  std::map<Digest, uint32_t> sizes;
  uint64_t sum = 0;
  CENOTE_RETURN_IF_ERROR(check_refs(event.blocks, sizes, sum));
  return check_server(event.server);
}

absl::Status check_one(const ReplicasLost& event) {
  if (event.blocks.size() > kEventBlocksMax)
    return bad(str_cat(event.blocks.size(), " blocks, at most ", kEventBlocksMax));
  if (event.all && !event.blocks.empty()) return bad("all blocks lost, and a list of them");
  return check_server(event.server);
}

absl::Status check_one(const PrefetchSet& event) {
  return event.revision.empty() ? bad("a prefetch without digest") : absl::OkStatus();
}

absl::Status check_one(const OperationDone& event) {
  if (event.id.size() != kOperationIdBytes)
    return bad(str_cat("an operation's id of ", event.id.size(), " bytes, ", kOperationIdBytes, " are needed"));
  if (event.request.empty()) return bad("an operation without its request");
  if (event.revisions.size() > kEventBlocksMax)
    return bad(str_cat(event.revisions.size(), " revisions, at most ", kEventBlocksMax));
  if (!event.name.empty()) CENOTE_RETURN_IF_ERROR(check_model_name(event.name));
  return event.tag.empty() ? absl::OkStatus() : check_tag(event.tag);
}

absl::Status check_one(const LineageSet& event) {
  if (event.lineage == 0) return bad("a catalogue without lineage");
  if (event.held_because.size() > kHeldBecauseBytesMax || !plain_utf8(event.held_because)) {
    return bad(str_cat("a reason of ", event.held_because.size(), " bytes, plain text of at most ",
                       kHeldBecauseBytesMax));
  }
  return absl::OkStatus();
}

absl::Status check_one(const RevisionLabelled& event) {
  if (event.revision.empty()) return bad("a label without revision");
  std::map<Digest, uint32_t> sizes;
  uint64_t sum = 0;
  CENOTE_RETURN_IF_ERROR(check_refs({event.label}, sizes, sum));
  return check_model_name(event.name);
}

absl::Status check_one(const NameOwned& event) {
  CENOTE_RETURN_IF_ERROR(check_model_name(event.name));
  if (event.tenant.empty() || event.tenant.size() > kTenantBytesMax || !plain_utf8(event.tenant))
    return bad(str_cat("a tenant's name of ", event.tenant.size(), " bytes, plain text of 1 to ", kTenantBytesMax));
  return absl::OkStatus();
}

struct Describe {
  std::string operator()(const RevisionSealed& e) const {
    return str_cat("seal ", e.record.name, "@", e.record.digest.short_hex(), ", ", e.record.blocks.size(),
                   " blocks, ", format_bytes(e.record.weight_bytes));
  }
  std::string operator()(const TagMoved& e) const {
    return str_cat(e.rollback ? "roll back " : "publish ", e.name, ":", e.tag, " -> ",
                   e.revision.short_hex());
  }
  std::string operator()(const TagRemoved& e) const { return str_cat("remove tag ", e.name, ":", e.tag); }
  std::string operator()(const RevisionRemoved& e) const {
    return str_cat("remove ", e.name, "@", e.revision.short_hex());
  }
  std::string operator()(const ReplicasAdded& e) const {
    return str_cat(e.server, " holds ", e.blocks.size(), " blocks more");
  }
  std::string operator()(const ReplicasLost& e) const {
    return e.all ? str_cat(e.server, " lost all blocks")
                 : str_cat(e.server, " lost ", e.blocks.size(), " blocks");
  }
  std::string operator()(const PrefetchSet& e) const {
    return str_cat(e.wanted ? "prefetch " : "evict ", e.revision.short_hex());
  }
  std::string operator()(const OperationDone& e) const {
    return str_cat("answer to an operation on ", e.name.empty() ? "models" : e.name);
  }
  std::string operator()(const LineageSet& e) const {
    return e.held_because.empty() ? "free unused blocks" : str_cat("hold unused blocks: ", e.held_because);
  }
  std::string operator()(const RevisionLabelled& e) const {
    return str_cat("label ", e.name, "@", e.revision.short_hex());
  }
  std::string operator()(const NameOwned& e) const { return str_cat(e.name, " belongs to tenant ", e.tenant); }
};

}  // namespace

bool RevisionSealed::operator==(const RevisionSealed& other) const {
  const RevisionRecord &a = record, &b = other.record;
  return a.digest == b.digest && a.name == b.name && a.manifest_bytes == b.manifest_bytes &&
         a.manifest_blocks == b.manifest_blocks && a.blocks == b.blocks && a.file_blocks == b.file_blocks &&
         a.weight_bytes == b.weight_bytes && a.created_us == b.created_us &&
         a.device_filter == b.device_filter;
}

absl::Status check_event(const CatalogueEvent& event) {
  return std::visit([](const auto& e) { return check_one(e); }, event);
}

std::string describe_event(const CatalogueEvent& event) {
  return std::visit(Describe(), event);
}

}  // namespace cenote
