#include "fabric/libfabric/operations.h"

#include "base/status.h"

namespace cenote::fabric {
namespace {
constexpr size_t kSlabOperations = 64;
static_assert(kOperationsPerTransportMax % kSlabOperations == 0);
}  // namespace

void OperationList::push_back(Operation* operation) {
  CENOTE_CHECK(!operation->listed);
  operation->listed = true;
  operation->next = nullptr;
  operation->previous = last_;
  (last_ != nullptr ? last_->next : first_) = operation;
  last_ = operation;
  ++size_;
}

void OperationList::remove(Operation* operation) {
  CENOTE_CHECK(operation->listed && size_ > 0);
  operation->listed = false;
  (operation->previous != nullptr ? operation->previous->next : first_) = operation->next;
  (operation->next != nullptr ? operation->next->previous : last_) = operation->previous;
  --size_;
}

Operation* OperationPool::take() {
  if (free_.empty()) {
    if (slabs_.size() * kSlabOperations >= kOperationsPerTransportMax) return nullptr;
    slabs_.push_back(std::make_unique<Operation[]>(kSlabOperations));
    for (size_t i = 0; i < kSlabOperations; ++i) free_.push_back(&slabs_.back()[i]);
  }
  Operation* operation = free_.back();
  free_.pop_back();
  ++in_use_;
  return operation;
}

void OperationPool::give(Operation* operation) {
  CENOTE_CHECK(!operation->listed && in_use_ > 0);
  --in_use_;
  free_.push_back(operation);
}

}  // namespace cenote::fabric
