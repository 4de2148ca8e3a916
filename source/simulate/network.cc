#include "simulate/network.h"

#include <algorithm>

#include "base/status.h"

namespace cenote::simulate {
namespace {

constexpr Duration kLocalLatency = Duration::from_us(15);
constexpr Duration kTurnDelay = Duration::from_us(10);      // From an event to the loop that takes it.
constexpr uint32_t kIdleTurnsMax = 5'000;                   // In a second, with nothing coming in: more is spinning (100,000 of them).

}  // namespace

World& Process::world() { return network_.world(); }
const std::string& Process::name() const { return network_.name(place_); }

// ---- links -----------------------------------------------------------------------------------------------------------------
void Link::send(int side, uint64_t bytes, std::function<void()> deliver) {
  if (!open(side)) return;
  End& to = ends_[1 - side];
  network_.transit(ends_[side].place, to.place, bytes, &to.last, [self = shared_from_this(), side, deliver = std::move(deliver)]() mutable {
    End& taker = self->ends_[1 - side];
    self->network_.deliver(taker.place, taker.incarnation, [self, side, deliver = std::move(deliver)] {
      if (self->open(1 - side)) deliver();
    });
  });
}

void Link::close(int side, const absl::Status& why) {
  if (!open(side)) return;
  End& to = ends_[1 - side];
  network_.transit(ends_[side].place, to.place, 64, &to.last, [self = shared_from_this(), side, why] {
    End& other = self->ends_[1 - side];
    self->network_.deliver(other.place, other.incarnation, [self, side, why] { self->tell(1 - side, why); });
  });
  tell(side, why);
}

void Link::tell(int side, const absl::Status& why) {
  if (std::exchange(ends_[side].told, true)) return;
  if (const auto closed = std::exchange(ends_[side].closed, nullptr)) closed(why);
}

std::shared_ptr<Link> Network::open_link(Process& from, PlaceId to, Closed closed, std::function<void(Process&)> take) {
  auto link = std::make_shared<Link>(*this, Link::End{.place = from.place(), .incarnation = from.incarnation(), .closed = std::move(closed)},
                                     Link::End{.place = to});
  links_.push_back(link);
  transit(from.place(), to, 256, &link->end(1).last, [this, link, to, take = std::move(take)] {
    Process* taker = process(to);
    if (taker == nullptr) {
      transit(to, link->end(0).place, 64, &link->end(0).last, [this, link] {
        deliver(link->end(0).place, link->end(0).incarnation, [link] { link->tell(0, absl::UnavailableError("connection refused")); });
      });
      return;
    }
    link->end(1).incarnation = taker->incarnation();
    deliver(to, taker->incarnation(), [this, link, to, take] {
      if (link->open(1)) take(*process(to));
    });
  });
  if (!reachable(from.place(), to)) watch(link);
  return link;
}

// Keepalive: a way or a peer that is silent for kKeepalive from now on ends the link at both sides.
void Network::watch(const std::shared_ptr<Link>& link) {
  const Instant since = world_.now();
  world_.after(kKeepalive, [this, weak = std::weak_ptr<Link>(link), since] {
    const auto known = weak.lock();
    if (known == nullptr) return;
    const auto silent_since = [&](PlaceId a, PlaceId b) {
      const Place& from = places_[a];
      if (from.process == nullptr || (from.stopped && from.stopped_at <= since)) return true;
      const auto way = ways_.find({from.host, places_[b].host});
      return way != ways_.end() && way->second.cut && way->second.since <= since;
    };
    const PlaceId a = known->end(0).place, b = known->end(1).place;
    if (!silent_since(a, b) && !silent_since(b, a)) return;
    for (const int side : {0, 1}) {
      deliver(known->end(side).place, known->end(side).incarnation, [known, side] { known->tell(side, absl::UnavailableError("the peer is silent")); });
    }
  });
}

void Network::watch_all() {
  std::erase_if(links_, [](const auto& link) { return link.expired(); });
  for (const auto& weak : std::vector<std::weak_ptr<Link>>(links_)) {
    const auto link = weak.lock();
    if (link == nullptr || (!link->open(0) && !link->open(1))) continue;
    if (!reachable(link->end(0).place, link->end(1).place)) watch(link);
  }
}

// ---- processes -------------------------------------------------------------------------------------------------------------
Network::Network(World& world) : world_(world), latency_(world.draw(Duration::from_us(40), Duration::from_us(400))),
      bytes_per_us_(int64_t{1} << (4 + world.draw(8))) {}

PlaceId Network::add_place(std::string name, std::string host) {
  const uint32_t number = hosts_.emplace(std::move(host), static_cast<uint32_t>(hosts_.size())).first->second;
  places_.emplace_back();
  places_.back().name = std::move(name);
  places_.back().host = number;
  return static_cast<PlaceId>(places_.size() - 1);
}

PlaceId Network::find(const std::string& name) const {
  const auto found = std::find_if(places_.begin(), places_.end(), [&](const Place& place) { return place.name == name; });
  CENOTE_CHECK(found != places_.end());
  return static_cast<PlaceId>(found - places_.begin());
}

void Network::start(PlaceId id, std::unique_ptr<Process> process) {
  Place& place = places_[id];
  CENOTE_CHECK(place.process == nullptr);
  world_.say(place.name, " starts");
  place.process = std::move(process);
  place.stopped = false;
  place.idle_turns = 0;
  place.process->start();
  wake(id);
}

void Network::kill(PlaceId id, const std::string& how) {
  Place& place = places_[id];
  if (place.process == nullptr) return;
  world_.say(place.name, " ends: ", how);
  world_.note(id);
  const Incarnation incarnation = place.process->incarnation();
  place.process->killed();
  const std::unique_ptr<Process> dead = std::move(place.process);
  place.stopped = false;
  place.held.clear();
  ++place.turn;
  place.turn_at = Instant::infinite_future();
  for (auto& [number, fail] : std::exchange(place.calls, {})) fail(absl::UnavailableError("the peer died"));
  std::erase_if(links_, [](const auto& link) { return link.expired(); });
  for (const auto& weak : std::vector<std::weak_ptr<Link>>(links_)) {
    const auto link = weak.lock();
    if (link == nullptr) continue;
    for (const int side : {0, 1}) {
      Link::End& end = link->end(side);
      if (end.place != id || end.incarnation != incarnation || end.told) continue;
      link->close(side, absl::UnavailableError("connection reset"));
      if (!reachable(end.place, link->end(1 - side).place)) watch(link);
    }
  }
  if (place.exited) place.exited(incarnation, how);
}

void Network::exit(Process& process, const std::string& how) {
  world_.after(Duration{}, [this, id = process.place(), incarnation = process.incarnation(), how] {
    if (places_[id].process != nullptr && places_[id].process->incarnation() == incarnation) kill(id, how);
  });
}

void Network::stop(PlaceId id) {
  Place& place = places_[id];
  if (place.process == nullptr || place.stopped) return;
  world_.say(place.name, " is stopped");
  place.stopped = true;
  place.stopped_at = world_.now();
  watch_all();
}

void Network::resume(PlaceId id) {
  Place& place = places_[id];
  if (place.process == nullptr || !place.stopped) return;
  world_.say(place.name, " goes on");
  place.stopped = false;
  const Incarnation incarnation = place.process->incarnation();
  for (const auto& what : std::exchange(place.held, {})) deliver(id, incarnation, what);
  wake(id);
}

void Network::deliver(PlaceId id, Incarnation incarnation, std::function<void()> what) {
  Place& place = places_[id];
  if (place.process == nullptr || place.process->incarnation() != incarnation) return;
  if (place.stopped) {
    place.held.push_back(std::move(what));
    return;
  }
  what();
  place.fed = true;
  wake(id);
}

void Network::later(Process& process, Duration delay, std::function<void()> what) {
  world_.after(delay, [this, id = process.place(), incarnation = process.incarnation(), what = std::move(what)] { deliver(id, incarnation, what); });
}

void Network::wake(PlaceId id) {
  if (places_[id].process != nullptr) arm(id, world_.now() + kTurnDelay);
}

void Network::arm(PlaceId id, Instant when) {
  Place& place = places_[id];
  if (place.turn_at <= when) return;
  place.turn_at = when;
  if (when == Instant::infinite_future()) return;
  world_.at(when, [this, id, number = ++place.turn] { turn(id, number); });
}

void Network::turn(PlaceId id, uint64_t number) {
  Place& place = places_[id];
  if (place.process == nullptr || place.turn != number) return;
  place.turn_at = Instant::infinite_future();
  if (place.stopped) return;  // It runs when it goes on.
  const Instant now = world_.now();
  if (now - place.window >= Duration::from_seconds(1)) {
    place.window = now;
    place.idle_turns = 0;
  }
  if (!std::exchange(place.fed, false) && ++place.idle_turns > kIdleTurnsMax) {
    world_.fail(str_cat(place.name, " spins: ", place.idle_turns, " turns within a second that nothing from outside caused"));
  }
  world_.note(now.ns);
  world_.note(id);
  place.process->run(now);
  if (place.process != nullptr) arm(id, std::max(place.process->due(), now + kTurnDelay));
}

// ---- ways ------------------------------------------------------------------------------------------------------------------
bool Network::reachable(PlaceId a, PlaceId b) const {
  const auto open = [&](PlaceId from, PlaceId to) {
    const Place& place = places_[from];
    if (place.process == nullptr || place.stopped) return false;
    const auto way = ways_.find({place.host, places_[to].host});
    return way == ways_.end() || !way->second.cut;
  };
  return open(a, b) && open(b, a);
}

void Network::cut(PlaceId from, PlaceId to) {
  if (places_[from].host == places_[to].host) return;
  Way& way = ways_[{places_[from].host, places_[to].host}];
  if (way.cut) return;
  world_.say("cut ", places_[from].name, " -> ", places_[to].name);
  way.cut = true;
  way.since = world_.now();
  watch_all();
}

void Network::heal(PlaceId from, PlaceId to) {
  const auto found = ways_.find({places_[from].host, places_[to].host});
  if (found == ways_.end() || !found->second.cut) return;
  world_.say("healed ", places_[from].name, " -> ", places_[to].name);
  found->second.cut = false;
  for (auto& arrive : std::exchange(found->second.waiting, {})) arrive();
}

void Network::reset(PlaceId one, PlaceId other) {
  const uint32_t a = places_[one].host, b = places_[other].host;
  if (a == b) return;
  world_.say("links break between ", places_[one].name, " and ", places_[other].name);
  for (const auto& weak : std::vector<std::weak_ptr<Link>>(links_)) {
    const auto link = weak.lock();
    if (link == nullptr) continue;
    const uint32_t from = places_[link->end(0).place].host, to = places_[link->end(1).place].host;
    if (!(from == a && to == b) && !(from == b && to == a)) continue;
    for (const int side : {0, 1}) {
      deliver(link->end(side).place, link->end(side).incarnation, [link, side] { link->tell(side, absl::UnavailableError("connection reset by the way")); });
    }
  }
}

Duration Network::travel(PlaceId from, PlaceId to, uint64_t bytes) {
  if (places_[from].host == places_[to].host) return kLocalLatency;
  const int64_t factor = std::max(places_[from].slow, places_[to].slow);
  const Duration jitter = world_.draw(Duration{}, Duration{latency_.ns / 2});
  return (latency_ + jitter + Duration{static_cast<int64_t>(bytes) * 1'000 / bytes_per_us_}) * factor;
}

void Network::transit(PlaceId from, PlaceId to, uint64_t bytes, Instant* last, std::function<void()> arrive) {
  Instant when = world_.now() + travel(from, to, bytes);
  if (last != nullptr) *last = when = std::max(when, *last);
  const std::pair hosts(places_[from].host, places_[to].host);
  world_.at(when, [this, hosts, arrive = std::move(arrive)]() mutable {
    Way& way = ways_[hosts];
    if (way.cut) {
      way.waiting.push_back(std::move(arrive));
    } else {
      arrive();
    }
  });
}

void Network::ask_call(PlaceId from, PlaceId to, uint64_t bytes, std::function<void(absl::Status)> fail,
                       std::function<void(Process&, uint64_t)> arrived) {
  transit(from, to, bytes, nullptr, [this, from, to, fail = std::move(fail), arrived = std::move(arrived)] {
    const auto refuse = [this, from, to, fail](absl::Status why) {
      transit(to, from, 64, nullptr, [fail, why = std::move(why)] { fail(why); });
    };
    Process* server = process(to);
    if (server == nullptr) return refuse(absl::UnavailableError("connection refused"));
    const uint64_t number = next_call_++;
    places_[to].calls.emplace(number, refuse);
    deliver(to, server->incarnation(), [this, to, number, arrived] { arrived(*process(to), number); });
  });
}

}  // namespace cenote::simulate
