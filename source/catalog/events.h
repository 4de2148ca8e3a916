// catalog/events.h - the only way the catalogue changes, and how an event is written down.
//
// Encoded form (little-endian; golden files tests/data/event_*_v1.bin): u8 version (1), u8 type (the
// variant's index + 1), then the fields in the order below. Texts and lists carry a u32 length; a block is 32
// bytes of id and u32 size. Types are append only.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "message/record.h"

namespace cenote {

inline constexpr size_t kEventBytesMax = 64 << 20;
inline constexpr size_t kEventBlocksMax = 1 << 19;  // Of one list: 2 TiB of full blocks.
static_assert(3 * kEventBlocksMax * 36 + (1 << 20) < kEventBytesMax);
inline constexpr size_t kServerNameBytesMax = 64;
inline constexpr size_t kOperationIdBytes = 16;
inline constexpr size_t kHeldBecauseBytesMax = 1024;

// A revision belongs to a name. One digest may belong to several names; its record is the same but for name
// and created_us. Its label is an event of its own.
struct RevisionSealed {
  RevisionRecord record;
  bool operator==(const RevisionSealed& other) const;
};

// Publish: `revision` becomes the target, the old one the newest of the tag's history. Rollback: `revision`
// must be the newest of the history, which loses it; the old target is forgotten.
struct TagMoved {
  std::string name;
  std::string tag;
  Digest revision;
  bool rollback = false;
  bool operator==(const TagMoved&) const = default;
};

// The tag and its history are gone; its revisions stay.
struct TagRemoved {
  std::string name;
  std::string tag;
  bool operator==(const TagRemoved&) const = default;
};

// The digest no longer belongs to the name. No tag of the name may point at it; histories forget it. With its
// last name the revision is gone and its blocks lose a reference.
struct RevisionRemoved {
  std::string name;
  Digest revision;
  bool operator==(const RevisionRemoved&) const = default;
};

// `server` holds these blocks (some of which it may have been known to hold).
struct ReplicasAdded {
  std::string server;
  std::vector<BlockRef> blocks;
  bool operator==(const ReplicasAdded&) const = default;
};

// `server` holds these no more; with `all`, it holds nothing and `blocks` is empty. Blocks it was not known
// to hold are ignored.
struct ReplicasLost {
  std::string server;
  bool all = false;
  std::vector<Digest> blocks;
  bool operator==(const ReplicasLost&) const = default;
};

// Whether a revision is brought to devices before anyone asks for it. Evicting it ends that, until it is deployed,
// published or rolled back to anew.
struct PrefetchSet {
  Digest revision;
  bool wanted = true;
  bool operator==(const PrefetchSet&) const = default;
};

// The answer that a change gave, in one batch with the change: who asks again under the same id hears the same.
struct OperationDone {
  std::string id;  // kOperationIdBytes random bytes of who asked.
  Digest request;  // Of what was asked: an id does not stand for two requests.
  std::string name;
  std::string tag;
  Digest revision;  // These two are empty where the answer has none.
  Digest previous;
  bool nothing_new = false;
  std::vector<Digest> revisions;
  uint64_t freed_bytes = 0;
  bool operator==(const OperationDone&) const = default;
};

// Which catalogue this is: a number made at random when a catalogue begins, and anew when it continues another one
// (restored, or an older file put back). With `held_because` nothing is dropped from memory servers: they may hold
// what a lost catalogue knew.
struct LineageSet {
  uint64_t lineage = 0;
  std::string held_because;
  bool operator==(const LineageSet&) const = default;
};

// The block that names the revision in the pool itself (catalog/label.h).
struct RevisionLabelled {
  std::string name;
  Digest revision;
  BlockRef label;
  bool operator==(const RevisionLabelled&) const = default;
};

// The name, which has a revision, belongs to the tenant; names that no event gave away are the default tenant's. Ends with the
// name's last revision.
struct NameOwned {
  std::string name;
  std::string tenant;
  bool operator==(const NameOwned&) const = default;
};

using CatalogueEvent = std::variant<RevisionSealed, TagMoved, TagRemoved, RevisionRemoved, ReplicasAdded, ReplicasLost,
                                    PrefetchSet, OperationDone, LineageSet, RevisionLabelled, NameOwned>;

std::string encode_event(const CatalogueEvent& event);
// kInvalidArgument: truncated, trailing bytes, bad names, sizes out of bounds. kFailedPrecondition: a newer
// version or type, written by a newer Cenote.
absl::StatusOr<CatalogueEvent> decode_event(std::string_view bytes);

// The checks that need no catalogue: names, sizes, bounds. decode_event and Catalogue::apply both make them.
absl::Status check_event(const CatalogueEvent& event);

// For people and logs: "publish gpt2:latest -> 1f2e3d4c5b6a".
std::string describe_event(const CatalogueEvent& event);

}  // namespace cenote
