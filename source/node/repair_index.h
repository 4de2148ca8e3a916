// node/repair_index.h - what the controller keeps of blocks that lack replicas or have one too many, and of copies under way. A block that has
// its replicas is not in it. Every call costs O(log blocks). Pure bookkeeping; what is to be done about it says policy/repair.h.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "message/control.h"
#include "policy/repair.h"

namespace cenote::node {

class RepairIndex {
 public:
  struct Short {
    uint32_t readable = 0;     // The fewer, the more urgent;
    uint32_t references = 0;   // then the more revisions need it.
    uint32_t size_bytes = 0;
    uint32_t missing = 0;
  };
  struct Copy {
    CopyOrder order;
    std::string target;
    Instant since;
  };

  // What a block is now. `from`: when something may be done about it; not moved for a block that was that already.
  void set_short(const Digest& id, const Short& is, Instant from);
  void set_surplus(const Digest& id, Instant from);
  void set_lost(const Digest& id);
  void set_whole(const Digest& id);

  // The most urgent blocks that lack a replica, are not being copied and may be now.
  std::vector<Digest> ready(Instant now, size_t limit);
  std::vector<Digest> surplus(Instant now, size_t limit) const;
  // Of a block in either list: not before then.
  void postpone(const Digest& id, Instant until);
  bool is_short(const Digest& id) const;
  const std::string* failed_at(const Digest& id) const;   // The server that could not take it last. Null: none.

  void begin(Copy copy);
  const Copy* copy(const Digest& id) const;               // Null: none is under way.
  void finished(Instant now, const Digest& id);           // Its target holds it.
  void cancelled(const Digest& id);                       // Its target is lost, or nobody needs it any more.
  // It came to nothing: tried again later, each time after twice as long, elsewhere if possible. Returns how often it failed.
  uint32_t failed(Instant now, const Digest& id);
  std::vector<const Copy*> copies_to(const std::string& server) const;
  std::vector<Digest> older_than(Instant since) const;    // Copies.
  size_t copying() const { return copies_.size(); }

  struct Load { uint32_t copies = 0; uint64_t bytes = 0; };
  Load load_in(const std::string& server) const { return load_of(in_, server); }
  Load load_out(const std::string& server) const { return load_of(out_, server); }  // As first source.

  Instant next(Instant now) const;                        // When something that waits may be done.
  RepairStatus status(Instant now) const;

  static constexpr Duration kRetryMin = Duration::from_seconds(1);
  static constexpr Duration kRetryMax = Duration::from_seconds(60);
  static constexpr Duration kRateOver = Duration::from_seconds(10);

 private:
  enum class Kind : uint8_t { kShort, kSurplus, kLost };
  struct Entry {
    Kind kind = Kind::kShort;
    Short is;
    Instant from;
    uint32_t failures = 0;
    std::string failed_at;
  };
  using Key = std::tuple<uint32_t, uint32_t, Digest>;
  static Key key(const Digest& id, const Short& is) { return {is.readable, UINT32_MAX - is.references, id}; }
  static Load load_of(const std::map<std::string, Load>& loads, const std::string& server);
  void add(const Digest& id, Entry entry);
  std::optional<Entry> take(const Digest& id);
  void settle(const Copy& copy);

  std::map<Digest, Entry> entries_;
  std::set<Key> ready_;                              // Short, not waiting, not being copied.
  std::set<std::pair<Instant, Digest>> waiting_;     // Short, not being copied, until then.
  std::set<std::pair<Instant, Digest>> surplus_;     // From when.
  std::map<Digest, Copy> copies_;
  std::map<std::string, std::set<Digest>> by_target_;
  std::map<std::string, Load> in_, out_;
  uint64_t short_ = 0, short_bytes_ = 0, lost_ = 0;
  uint64_t copied_blocks_ = 0, copied_bytes_ = 0;
  std::deque<std::pair<Instant, uint64_t>> lately_;  // Copies that ended in the last kRateOver: when, bytes.
};

}  // namespace cenote::node
