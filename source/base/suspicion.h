// base/suspicion.h - which of the peers somebody waits for have fallen silent. A dead process resets its connections, which says so at
// once; a stopped one, a cut network or a dead host say nothing for 20 to 40 s. So whoever is waited for beats (node/beats.h): with each
// beat it promises when the next comes at the latest, and a peer that has let three such times pass is suspected.
//
// Suspicion is cheap and taken back by the next word: who suspects asks others beside the peer, closes nothing and forgets nothing.
// A peer that nobody waits for is not suspected. One that is expected first has a whole silence before it.
//
// The owner's own stalls do not count: between two steps passes at most what the owner had asked for, and what went beyond was
// its own sleep (a stopped process, a machine that ran something else). Silence is measured in the time that is left, so a machine that
// stood still for seconds does not suspect the world. Stalls of kStallMin and more are counted, for reports.
//
// Who waits for whom, what beats, and what suspicion does:
//   client -> router          Session, while a request is there      the request goes to another router as well
//   client -> executor        Session, while a ticket's reply is due  the router that gave the ticket finds another
//   router -> executor        Session, while a request is there      it goes to another executor as well, which is chosen before it
//   executor -> agent         Attach, always                         requests that need its fetches are told to be stuck: as above
//   agent -> executor         Attach, always                         said; it is killed only after 15 s
//   agent -> memory server    reads: a probe over an endpoint of its own; grants: the call's age     another replica is read
//   controller -> member      Join, always                           agents ask that server last, status says so; lost after member_timeout
//   member -> controller      Join, its answer to each beat          said; what it told last is gone by
// What beats always does so twice a silence, not three times: an idle daemon pays for it, and suspicion there costs an order of preference.
// Tools' calls have deadlines, and so have writes to the pool; they wait for one certain peer, so suspicion would not help.
//
//   step(now, events):  suspicion.awake(now);              // First: before any event is handled.
//                       ... expect(), heard(), settle(), forget() ...
//                       for (peer : suspicion.step(now)) ...   // Newly silent.
//                       next_deadline() = min(.., suspicion.next_deadline());
//
// Pure; thread-compatible. A step costs nothing until next_deadline(); then a look at each peer, each promise's length while one is waited for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace cenote {

struct StallCount {
  uint64_t stalls = 0;  // Of kStallMin and more, while somebody was waited for.
  Duration longest;
};

// How often a peer beats that may be silent for so long.
constexpr Duration beat_interval(Duration silence_max) { return {silence_max.ns / 3}; }

// What a large message takes longer than a small one on the slowest link we reckon with, 10 MB/s; the first kSmallBytes are within
// what a silence leaves over. A stream carries nothing else meanwhile.
inline constexpr uint64_t kSmallBytes = 512 << 10;
constexpr Duration time_for(uint64_t bytes) { return {bytes <= kSmallBytes ? 0 : static_cast<int64_t>(bytes - kSmallBytes) * 100}; }

template <typename Peer>
class Suspicion {
 public:
  static constexpr int64_t kPromisesMissed = 3;
  static constexpr Duration kTickMax = Duration::from_ms(250);  // Else a promise's length.
  static constexpr Duration kStallMin = Duration::from_ms(50);
  // Returns how much later this is than the owner had asked for.
  Duration awake(Instant now) {
    if (now <= next_check_) return {};
    const Duration late = now - next_check_;
    slept_ = slept_ + late;
    if (late >= kStallMin) {
      ++stalls_.stalls;
      stalls_.longest = std::max(stalls_.longest, late);
    }
    next_check_ = now;
    return late;
  }

  // Something is expected of the peer, from now on; `grace` longer than its beats would need (a large message to read). If more is
  // expected of it already, that wait goes on, with the longer grace. A promise of zero: it does not beat, so it is never suspected.
  void expect(Instant now, const Peer& peer, Duration promise, Duration grace = {}) {
    State& state = peers_[peer];
    const Instant since = own(now) + grace;
    if (!state.waiting) {
      state.waiting = true;
      state.promise = promise;
      state.heard = std::max(state.heard, since);
    } else if (grace.ns > 0) {
      state.heard = std::max(state.heard, since);
    }
    next_check_ = std::min(next_check_, now + tick(state));
  }
  // Nothing is expected any more. If it is suspected, it stays so until it is heard.
  void settle(const Peer& peer) {
    if (const auto found = peers_.find(peer); found != peers_.end()) found->second.waiting = false;
  }
  // It is known otherwise that nothing can be had there; until it is heard.
  void suspect(const Peer& peer) { peers_[peer].silent = true; }
  void forget(const Peer& peer) { peers_.erase(peer); }
  // It spoke. True: it was suspected, and is not any more.
  bool heard(Instant now, const Peer& peer) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return false;
    found->second.heard = std::max(found->second.heard, own(now));
    return std::exchange(found->second.silent, false);
  }
  bool heard(Instant now, const Peer& peer, Duration promise) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return false;
    found->second.promise = promise;
    found->second.heard = own(now);  // The beat comes after what its grace was for.
    return std::exchange(found->second.silent, false);
  }

  bool suspected(const Peer& peer) const {
    const auto found = peers_.find(peer);
    return found != peers_.end() && found->second.silent;
  }
  bool any_suspected() const {
    return std::any_of(peers_.begin(), peers_.end(), [](const auto& entry) { return entry.second.silent; });
  }

  // Those who became suspected.
  std::vector<Peer> step(Instant now) {
    std::vector<Peer> silent;
    if (now < next_check_) return silent;
    next_check_ = Instant::infinite_future();
    for (auto& [peer, state] : peers_) {
      if (!state.waiting || state.silent || state.promise.ns <= 0) continue;
      const Instant due = state.heard + state.promise * kPromisesMissed;
      if (own(now) >= due) {
        state.silent = true;
        silent.push_back(peer);
      } else {
        next_check_ = std::min({next_check_, now + (due - own(now)), now + tick(state)});
      }
    }
    return silent;
  }
  Instant next_deadline() const { return next_check_; }
  StallCount stalls() const { return stalls_; }

 private:
  struct State {
    bool waiting = false;
    bool silent = false;
    Duration promise;
    Instant heard{INT64_MIN / 2};  // In the owner's own time.
  };
  static Duration tick(const State& state) { return state.promise.ns > 0 ? std::min(state.promise, kTickMax) : kTickMax; }
  Instant own(Instant now) const { return {now.ns - slept_.ns}; }

  std::map<Peer, State> peers_;
  Instant next_check_ = Instant::infinite_future();
  Duration slept_;
  StallCount stalls_;
};

}  // namespace cenote
