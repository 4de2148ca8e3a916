// catalog/catalogue.h - revisions, names, tags and replicas. Changed only by apply(): the same events in the
// same order give the same catalogue, on every machine. No I/O. Thread-compatible. References and pointers
// are valid until the next apply().
#pragma once

#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/events.h"
#include "catalog/names.h"
#include "message/member.h"

namespace cenote {

inline constexpr size_t kTagHistoryMax = 64;  // Older targets of a tag are forgotten.
// Answers kept for who asks again; the oldest are forgotten first, the newest never.
inline constexpr size_t kOperationsKept = 1024;
inline constexpr size_t kOperationDigestsKept = 1 << 17;  // In the answers' lists, all together.

struct TagState {
  Digest revision;
  std::vector<Digest> history;  // Previous targets, newest last, none twice in a row.
  bool operator==(const TagState&) const = default;
};

struct RevisionEntry {
  RevisionRecord record;                 // `name` is the first of `names`.
  std::map<std::string, int64_t> names;  // Name -> when it was deployed under it, wall clock us.
  std::map<std::string, BlockRef> labels;  // Name -> the block that says so in the pool; of some names.
};

struct BlockState {
  uint32_t size_bytes = 0;
  uint32_t references = 0;        // Revisions that need it, counted once each, and labels.
  std::set<std::string> servers;  // Holders, by name.
};

class Catalogue {
 public:
  // kInvalidArgument, kNotFound, kAlreadyExists or kFailedPrecondition leave it unchanged.
  absl::Status apply(const CatalogueEvent& event);

  // Null: no such revision.
  const RevisionRecord* find(const Digest& revision) const;
  // What a name, tag or digest prefix means. kNotFound names the nearest; kInvalidArgument: the prefix fits
  // several.
  absl::StatusOr<Digest> resolve(const ModelRef& ref) const;
  absl::StatusOr<Digest> resolve(std::string_view text) const;  // Parses first.

  const std::map<Digest, RevisionEntry>& revisions() const { return revisions_; }
  // By name, then tag.
  const std::map<std::string, std::map<std::string, TagState>>& tags() const { return tags_; }
  const TagState* tag(std::string_view name, std::string_view tag) const;
  std::vector<TagView> tag_views() const;
  std::vector<std::string> names() const;  // Of revisions; sorted.
  std::vector<std::string> tags_of(std::string_view name, const Digest& revision) const;

  const std::map<Digest, BlockState>& blocks() const { return blocks_; }
  std::vector<std::string> replicas(const Digest& block) const;  // Servers, sorted; empty if none or unknown.
  uint32_t references(const Digest& block) const;
  std::vector<BlockRef> held_by(std::string_view server) const;
  // Server -> the blocks it holds; without servers that hold none.
  const std::map<std::string, std::set<Digest>>& held() const { return held_; }
  // Blocks that servers hold and no revision needs.
  std::vector<BlockRef> unreferenced() const;
  // Blocks that only this revision needs: what its removal frees.
  std::vector<BlockRef> only_needed_by(const Digest& revision) const;

  // Revisions that are not to be brought to devices before anyone asks.
  const std::set<Digest>& evicted() const { return evicted_; }
  // Null: no such id, or forgotten.
  const OperationDone* operation(std::string_view id) const;
  // Whose a name is; kDefaultTenant: nobody claimed it, or there is none.
  const std::string& owner_of(std::string_view name) const;
  // What of the pool is a tenant's: blocks that revisions of its names need, each once however many of them share it and
  // however often it is replicated. A block that two tenants need counts for both.
  struct TenantUse {
    std::map<Digest, uint32_t> blocks;  // With their sizes.
    std::set<std::string> names;
  };
  TenantUse tenant_use(std::string_view tenant) const;  // Costs a walk over all revisions.
  const std::map<std::string, std::string, std::less<>>& owners() const { return owners_; }  // Of names that are not the default tenant's.

  uint64_t lineage() const { return lineage_; }  // 0: it has none yet.
  // Why nothing may be dropped from memory servers; empty: what no revision needs may be.
  const std::string& held_because() const { return held_because_; }

  // The part that these events depend on and change: they apply to it, or fail, as they would to the whole. Small where they are few.
  Catalogue excerpt(std::span<const CatalogueEvent> events) const;

  // Events that make this catalogue from an empty one: a snapshot.
  std::vector<CatalogueEvent> as_events() const;
  // Over as_events(): equal for equal catalogues.
  Digest fingerprint() const;
  uint64_t applied() const { return applied_; }  // Events since construction.

 private:
  absl::Status apply_one(const RevisionSealed& event);
  absl::Status apply_one(const TagMoved& event);
  absl::Status apply_one(const TagRemoved& event);
  absl::Status apply_one(const RevisionRemoved& event);
  absl::Status apply_one(const ReplicasAdded& event);
  absl::Status apply_one(const ReplicasLost& event);
  absl::Status apply_one(const PrefetchSet& event);
  absl::Status apply_one(const OperationDone& event);
  absl::Status apply_one(const LineageSet& event);
  absl::Status apply_one(const RevisionLabelled& event);
  absl::Status apply_one(const NameOwned& event);
  bool has_name(std::string_view name) const;
  // One more, one fewer that needs the block.
  void need(const BlockRef& block);
  void release(const BlockRef& block);
  void copy_blocks(std::span<const BlockRef> blocks, Catalogue& part) const;
  void copy_revision(const Digest& revision, Catalogue& part) const;
  void copy_name(const std::string& name, Catalogue& part) const;

  std::map<Digest, RevisionEntry> revisions_;
  std::map<std::string, std::map<std::string, TagState>> tags_;
  std::map<Digest, BlockState> blocks_;
  std::set<Digest> unreferenced_;                     // Of blocks_: no revision and no label needs them.
  std::map<std::string, std::set<Digest>> held_;  // Server -> blocks; the inverse of BlockState::servers.
  std::set<Digest> evicted_;
  std::deque<OperationDone> operations_;  // Oldest first.
  size_t operation_digests_ = 0;
  std::map<std::string, std::string, std::less<>> owners_;
  uint64_t lineage_ = 0;
  std::string held_because_;
  uint64_t applied_ = 0;
};

// Distinct blocks of a revision: weights, files, manifest, and its label if the record has one.
std::vector<BlockRef> distinct_blocks(const RevisionRecord& record);

}  // namespace cenote
