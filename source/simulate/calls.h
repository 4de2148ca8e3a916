// simulate/calls.h - calls that wait for a machine's reply action: number -> how to answer. A machine that answers twice, or answers what
// nobody asked, breaks its contract.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "simulate/network.h"

namespace cenote::simulate {

template <typename Result>
class Calls {
 public:
  uint64_t add(uint64_t& next, Network::Answer<Result> done) {
    waiting_.emplace(next, std::move(done));
    return next++;
  }
  void finish(World& world, uint64_t call, Result result, uint64_t bytes = 128) {
    auto done = waiting_.extract(call);
    if (done.empty()) return world.fail(str_cat("call ", call, " was answered twice, or nobody made it"));
    done.mapped()(std::move(result), bytes);
  }
  size_t size() const { return waiting_.size(); }

 private:
  std::map<uint64_t, Network::Answer<Result>> waiting_;
};

}  // namespace cenote::simulate
