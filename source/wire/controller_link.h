// wire/controller_link.h - a daemon's Join: reports up, directives down, for as long as the daemon lives. Reconnects by itself, from
// 50 ms up to 1 s apart; while the controller is away reports are kept as below and the daemon goes on serving.
//
// on_directive and on_disconnected come on gRPC's threads, one at a time, on_connected on the link's own; none may block.
// on_connected is called when a connection is begun: the daemon then calls report() with everything a new controller must know (a
// memory server: inventory = true).
// Thread-safe. Destroying the link ends the stream and waits until no callback runs.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "message/control.h"
#include "message/member.h"
#include "wire/credentials.h"

namespace cenote::wire {

struct ControllerLinkOptions {
  std::string address;             // host:port
  Identity identity;               // The node's.
  Duration silence_max = Duration::from_seconds(5);  // The controller beats its heart more often than this.
};

struct ControllerLinkEvents {
  std::function<void()> on_connected;
  std::function<void(Directive)> on_directive;
  std::function<void(absl::Status)> on_disconnected;  // It tries again by itself, after Refused too. Not for its own end.
};

class ControllerLink {
 public:
  static std::unique_ptr<ControllerLink> open(ControllerLinkOptions options, ControllerLinkEvents events);
  virtual ~ControllerLink() = default;

  // A report that replaces one still waiting to be sent. Dropped while there is no connection (on_connected asks anew).
  virtual void report(const MemberReport& report) = 0;
  // A report whose `held` and `dropped` are increments and must not be replaced. kUnavailable: not connected, or the controller
  // does not read; send an inventory at the next on_connected instead.
  virtual absl::Status report_increment(const MemberReport& report) = 0;
  // "I live, and say so again within `next`"; the controller answers it with a directive. Nothing while there is no connection.
  virtual void beat(Duration next) = 0;
  virtual Instant heard_at() const = 0;  // When the last directive came.
  virtual bool connected() const = 0;   // The controller has answered on this connection.
};

}  // namespace cenote::wire
