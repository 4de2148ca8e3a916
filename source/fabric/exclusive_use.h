// fabric/exclusive_use.h - catches two threads inside one loop-affine object at the same time.
//
// A Transport may be handed from the thread that built it to the one that polls it, so the check is not "which thread" but
// "is another one inside now". One uncontended exchange per call.
#pragma once

#include <atomic>

#include "base/status.h"

namespace cenote::fabric {

class ExclusiveUse {
 public:
  class Scope {
   public:
    explicit Scope(ExclusiveUse& use) : use_(use) {
      // A failure here means: two threads call one Transport at once. Only wake() may come from another thread.
      CENOTE_CHECK(!use_.inside_.exchange(true, std::memory_order_acquire));
    }
    ~Scope() { use_.inside_.store(false, std::memory_order_release); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ExclusiveUse& use_;
  };

 private:
  std::atomic<bool> inside_{false};
};

}  // namespace cenote::fabric
