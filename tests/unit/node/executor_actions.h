// What the tests of node/executor.h share: revisions by number, and actions of one kind.
#pragma once

#include <vector>

#include "node/executor.h"

namespace cenote::node {

inline Digest digest(uint8_t n) {
  Digest d;
  d.bytes.fill(n);
  return d;
}

template <typename T>
std::vector<T> of(const std::vector<executor::Action>& actions) {
  std::vector<T> out;
  for (const executor::Action& action : actions) {
    if (const T* one = std::get_if<T>(&action)) out.push_back(*one);
  }
  return out;
}

}  // namespace cenote::node
