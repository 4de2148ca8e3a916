// fabric/libfabric/operations.h - the contexts that libfabric holds while an operation runs, and lists of them.
//
// Contexts belong to the provider from the post until the completion or the closing of the endpoint. They come from a
// bounded pool and are never freed before the pool, so even a provider that is late writes into memory that is ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <rdma/fabric.h>

#include "base/clock.h"
#include "fabric/transport.h"

namespace cenote::fabric {

enum class OperationKind : uint8_t { kRead = 0, kWrite = 1 };

struct Operation {
  fi_context2 context;  // First: libfabric hands back its address.
  Tag tag = 0;
  Instant deadline;
  void* local = nullptr;
  void* descriptor = nullptr;
  uint64_t size_bytes = 0;
  uint64_t remote_address = 0;
  uint64_t remote_key = 0;
  OperationKind kind = OperationKind::kRead;
  bool listed = false;
  Operation* previous = nullptr;
  Operation* next = nullptr;
};

// Doubly linked through the operations; owns nothing.
class OperationList {
 public:
  bool empty() const { return first_ == nullptr; }
  size_t size() const { return size_; }
  Operation* first() const { return first_; }
  void push_back(Operation* operation);
  void remove(Operation* operation);

 private:
  Operation* first_ = nullptr;
  Operation* last_ = nullptr;
  size_t size_ = 0;
};

// At most kOperationsPerTransportMax, made in slabs as they are needed. Single owner.
class OperationPool {
 public:
  Operation* take();  // Null: all are in use.
  void give(Operation* operation);
  size_t in_use() const { return in_use_; }

 private:
  std::vector<std::unique_ptr<Operation[]>> slabs_;
  std::vector<Operation*> free_;
  size_t in_use_ = 0;
};

}  // namespace cenote::fabric
