// simulate/network.h - processes in their places, and what lies between them: streams, calls, cuts, slow links, dead and stopped peers.
//
// A place is where a process of one name runs; killed, another incarnation may start there. Places of one host reach each other
// quickly and are never cut off from each other. What is sent while the way is cut waits, as in a kernel's buffers, and
// arrives when it is whole again. A stopped process hears everything at once when it goes on. A peer that is dead is noticed after one
// way; one that is silent (stopped, cut off) by keepalive, after kKeepalive.
//
// Nothing here decides anything for the product: roles (controller_node.h and its kin) join the machines of node/ with it, as bin/ joins
// them with gRPC and the fabric.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "simulate/world.h"

namespace cenote::simulate {

using PlaceId = uint32_t;
class Network;

inline constexpr Duration kKeepalive = Duration::from_ms(5'000);  // As wire/channel.h's kSilenceMax.

// A running role. Made by whoever starts it, destroyed when it is killed; what was on its way to it is dropped then.
class Process {
 public:
  Process(Network& network, PlaceId place, Incarnation incarnation) : network_(network), place_(place), incarnation_(incarnation) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  virtual void start() {}                // Once it is in its place.
  virtual void run(Instant now) = 0;     // One turn of its loop: takes what came, steps its machine, acts.
  virtual Instant due() const = 0;       // When to run though nothing comes.
  virtual void killed() {}               // The last thing: what its death leaves behind. It must not send.

  Network& network() { return network_; }
  World& world();
  PlaceId place() const { return place_; }
  Incarnation incarnation() const { return incarnation_; }
  const std::string& name() const;

 private:
  Network& network_;
  const PlaceId place_;
  const Incarnation incarnation_;
};

// An ordered two-way connection. Side 0 opened it, side 1 took it. Ends once; each living side is told once.
class Link : public std::enable_shared_from_this<Link> {
 public:
  struct End {
    PlaceId place = 0;
    Incarnation incarnation = 0;
    Instant last;                                // Arrival of the last thing sent to this end.
    std::function<void(absl::Status)> closed;    // In its process.
    bool told = false;
  };

  Link(Network& network, End opener, End taker) : network_(network), ends_{std::move(opener), std::move(taker)} {}
  // Nothing happens if the link has ended as far as `side` knows.
  void send(int side, uint64_t bytes, std::function<void()> deliver);
  // Both sides are told, the other one after what was sent before.
  void close(int side, const absl::Status& why);
  bool open(int side) const { return !ends_[side].told; }
  End& end(int side) { return ends_[side]; }
  void tell(int side, const absl::Status& why);  // In that side's process, now.

 private:
  Network& network_;
  End ends_[2];
};

// A Link that carries messages of two kinds.
template <typename Up, typename Down>
struct Stream : std::enable_shared_from_this<Stream<Up, Down>> {
  std::shared_ptr<Link> link;
  std::function<void(Up)> to_taker;      // Set by who takes it.
  std::function<void(Down)> to_opener;   // Set by who opens it.
  void up(Up message, uint64_t bytes = 256) {
    link->send(0, bytes, [self = this->shared_from_this(), message = std::move(message)]() mutable {
      if (self->to_taker) self->to_taker(std::move(message));
    });
  }
  void down(Down message, uint64_t bytes = 256) {
    link->send(1, bytes, [self = this->shared_from_this(), message = std::move(message)]() mutable {
      if (self->to_opener) self->to_opener(std::move(message));
    });
  }
};

class Network {
 public:
  explicit Network(World& world);

  World& world() { return world_; }
  PlaceId add_place(std::string name, std::string host);
  PlaceId find(const std::string& name) const;  // Must exist.
  const std::string& name(PlaceId place) const { return places_[place].name; }
  size_t size() const { return places_.size(); }

  // ---- processes
  void start(PlaceId place, std::unique_ptr<Process> process);
  Process* process(PlaceId place) const { return places_[place].process.get(); }
  bool stopped(PlaceId place) const { return places_[place].stopped; }
  void kill(PlaceId place, const std::string& how);       // Must not be called from within the process: it ends itself by exit().
  void exit(Process& process, const std::string& how);    // After this turn.
  void stop(PlaceId place);                               // SIGSTOP
  void resume(PlaceId place);                             // SIGCONT
  // When a process of this place has ended (in whatever is running then).
  void on_exit(PlaceId place, std::function<void(Incarnation, const std::string& how)> callback) { places_[place].exited = std::move(callback); }

  // ---- faults of the ways
  void cut(PlaceId from, PlaceId to);                     // This direction between their hosts.
  void heal(PlaceId from, PlaceId to);
  void reset(PlaceId one, PlaceId other);                 // All links between their hosts break; both sides hear of it.
  void slow(PlaceId place, uint32_t factor) { places_[place].slow = factor; }  // Of all ways to and from its host. 1: as built.
  uint32_t corrupt_per_mille = 0;                         // Of chunks on the wire. For whoever sends chunks.

  // ---- what passes
  // `arrive` happens at the other place's host. `last`: nothing overtakes what shares it.
  void transit(PlaceId from, PlaceId to, uint64_t bytes, Instant* last, std::function<void()> arrive);
  // In that process, when it is not stopped; never if it has ended.
  void deliver(PlaceId place, Incarnation incarnation, std::function<void()> what);
  // `what` after `delay` in this process: a timer or a worker thread of its own.
  void later(Process& process, Duration delay, std::function<void()> what);
  void wake(PlaceId place);                               // It has something to do: a turn follows at once.

  template <typename Wire>
  std::shared_ptr<Wire> connect(Process& from, PlaceId to, std::function<void(Process&, std::shared_ptr<Wire>)> take,
                                std::function<void(absl::Status)> closed) {
    auto wire = std::make_shared<Wire>();
    wire->link = open_link(from, to, std::move(closed), [wire, take = std::move(take)](Process& taker) { take(taker, wire); });
    return wire;
  }

  // A unary call. `done` comes once in the caller's process: the answer, kUnavailable (nobody there, or it died) or kDeadlineExceeded.
  template <typename Result>
  using Answer = std::function<void(Result, uint64_t bytes)>;
  template <typename Result>
  void call(Process& from, PlaceId to, uint64_t bytes, Duration timeout, std::function<void(Process&, Answer<Result>)> ask,
            std::function<void(Result)> done);

 private:
  struct Place {
    std::string name;
    uint32_t host = 0;
    std::unique_ptr<Process> process;
    bool stopped = false;
    Instant stopped_at;
    std::vector<std::function<void()>> held;               // While stopped.
    uint64_t turn = 0;                                     // Turns asked for; an older one that comes due is none.
    Instant turn_at = Instant::infinite_future();
    uint32_t slow = 1;
    std::map<uint64_t, std::function<void(absl::Status)>> calls;  // Under way here: how to fail them.
    std::function<void(Incarnation, const std::string&)> exited;
    Instant window;                                        // Of counting turns that nothing from outside caused.
    uint32_t idle_turns = 0;
    bool fed = false;                                      // Something came since the last turn.
  };
  struct Way {
    bool cut = false;
    Instant since;
    std::deque<std::function<void()>> waiting;
  };
  using Closed = std::function<void(absl::Status)>;

  std::shared_ptr<Link> open_link(Process& from, PlaceId to, Closed closed, std::function<void(Process&)> take);
  void turn(PlaceId place, uint64_t number);
  void arm(PlaceId place, Instant when);
  bool reachable(PlaceId a, PlaceId b) const;
  void watch(const std::shared_ptr<Link>& link);
  void watch_all();
  Duration travel(PlaceId from, PlaceId to, uint64_t bytes);
  void ask_call(PlaceId from, PlaceId to, uint64_t bytes, std::function<void(absl::Status)> fail, std::function<void(Process&, uint64_t)> arrived);
  void end_call(PlaceId place, uint64_t number) { places_[place].calls.erase(number); }

  World& world_;
  std::deque<Place> places_;
  std::map<std::string, uint32_t> hosts_;
  std::map<std::pair<uint32_t, uint32_t>, Way> ways_;
  std::vector<std::weak_ptr<Link>> links_;                 // In the order they were opened.
  uint64_t next_call_ = 1;
  const Duration latency_;       // Of each way, one way.
  const int64_t bytes_per_us_;   // 16 MB/s to 2 GB/s.
};

template <typename Result>
void Network::call(Process& from, PlaceId to, uint64_t bytes, Duration timeout, std::function<void(Process&, Answer<Result>)> ask,
                   std::function<void(Result)> done) {
  const PlaceId caller = from.place();
  const Incarnation incarnation = from.incarnation();
  auto finish = [this, caller, incarnation, over = std::make_shared<bool>(false), done = std::move(done)](Result result) {
    if (std::exchange(*over, true)) return;
    deliver(caller, incarnation, [done, result = std::move(result)]() mutable { done(std::move(result)); });
  };
  world_.after(timeout, [finish] { finish(Result(absl::DeadlineExceededError("no answer came in time"))); });
  ask_call(caller, to, bytes, [finish](absl::Status why) { finish(Result(std::move(why))); },
           [this, caller, to, finish, ask = std::move(ask)](Process& server, uint64_t number) {
             ask(server, [this, caller, to, number, finish](Result result, uint64_t size) {
               end_call(to, number);
               transit(to, caller, size, nullptr, [finish, result = std::move(result)]() mutable { finish(std::move(result)); });
             });
           });
}

}  // namespace cenote::simulate
