// node/acquires.h - what an executor has asked its agent for, and what becomes of each answer. The agent counts every Acquired that it sends as
// held until ReleaseRevision, so none may be dropped in silence: it would stay pinned. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "base/ids.h"

namespace cenote {

class Acquires {
 public:
  enum class Answer : uint8_t {
    kPrepare,  // Map it.
    kRefused,  // It cannot be had: tell whoever wants it.
    kRelease,  // Nobody wants it any more: give it back.
    kIgnore,   // Of a revision that is here already, or given back since.
  };

  // It is to be opened, or was already and became urgent.
  void want(const Digest& revision, bool urgent) { wanted_[revision] = urgent; }
  const std::map<Digest, bool>& wanted() const { return wanted_; }  // -> urgent.
  bool wants(const Digest& revision) const { return wanted_.contains(revision); }
  // To ask the agent with. Zero: it is being mapped, there is nothing to ask.
  uint64_t ask(const Digest& revision) {
    if (here_.contains(revision)) return 0;
    tickets_[next_ticket_] = revision;
    return next_ticket_++;
  }

  Answer answered(uint64_t ticket, bool ok, Digest& revision) {
    const auto asked = tickets_.extract(ticket);
    if (asked.empty()) return Answer::kIgnore;
    revision = asked.mapped();
    if (here_.contains(revision)) return Answer::kIgnore;
    if (!wanted_.contains(revision)) return ok ? Answer::kRelease : Answer::kIgnore;
    if (ok) {
      here_.insert(revision);
      return Answer::kPrepare;
    }
    wanted_.erase(revision);
    return Answer::kRefused;
  }

  // Mapped, or not: then it is given back at once.
  void prepared(const Digest& revision) { wanted_.erase(revision); }
  // ReleaseRevision goes out because nothing of it is mapped any more: answers to what was asked before speak of slots that the agent may
  // give to others.
  void given_back(const Digest& revision) {
    here_.erase(revision);
    std::erase_if(tickets_, [&](const auto& asked) { return asked.second == revision; });
  }

 private:
  std::map<Digest, bool> wanted_;        // By the state machine, not opened yet.
  std::set<Digest> here_;                // From the answer that is mapped until it is unmapped.
  std::map<uint64_t, Digest> tickets_;
  uint64_t next_ticket_ = 1;
};

}  // namespace cenote
