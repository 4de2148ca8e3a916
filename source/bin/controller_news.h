// bin/controller_news.h - what a daemon's log says of its link to the controller: each reason for an end once, and as a warning only if the
// controller had spoken before; until then it may be starting too. The link's callbacks only.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "base/log.h"

namespace cenote {

class ControllerNews {
 public:
  void spoke() { spoke_ = true; }
  void disconnected(const absl::Status& why) {
    std::string text(why.message());
    if (text == std::exchange(last_, text)) return;
    if (spoke_) {
      LOG_WARNING("controller: {}; serving goes on", text);
    } else {
      LOG_INFO("controller: {}; it may be starting too", text);
    }
  }

 private:
  std::string last_;
  bool spoke_ = false;
};

}  // namespace cenote
