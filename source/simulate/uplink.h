// simulate/uplink.h - a member's stream to the controller, as wire/controller_link.h gives it: reconnects by itself from 50 ms up to 1 s
// apart, says when a connection is begun, hands on directives. Belongs to one process.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>

#include "simulate/session.h"

namespace cenote::simulate {

class Uplink {
 public:
  struct Events {
    std::function<void()> connected;
    std::function<void(Directive)> directive;
  };
  Uplink(Process& member, PlaceId controller, Events events) : member_(member), controller_(controller), events_(std::move(events)) {}

  void open();
  bool connected() const { return wire_ != nullptr && answered_; }
  void report(const MemberReport& report) {
    if (wire_ != nullptr) wire_->up(report);
  }
  absl::Status report_increment(const MemberReport& report) {
    if (wire_ == nullptr) return absl::UnavailableError("not connected to the controller");
    wire_->up(report);
    return absl::OkStatus();
  }
  void close() {
    ending_ = true;
    if (wire_ != nullptr) wire_->link->close(0, absl::OkStatus());
  }

 private:
  Process& member_;
  const PlaceId controller_;
  const Events events_;
  std::shared_ptr<JoinWire> wire_;
  bool answered_ = false;
  bool ending_ = false;
  Duration pause_ = Duration::from_ms(50);
};

}  // namespace cenote::simulate
