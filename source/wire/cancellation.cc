#include "wire/cancellation.h"

namespace cenote::wire {

void Cancellation::cancel() {
  const std::lock_guard lock(mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  for (const auto& [id, stop] : stops_) stop();
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

Cancellation::Scope::Scope(Cancellation* cancellation, std::function<void()> stop) : cancellation_(cancellation) {
  if (cancellation_ == nullptr) return;
  const std::lock_guard lock(cancellation_->mutex_);
  if (cancellation_->cancelled_) {
    stop();
    return;
  }
  id_ = cancellation_->next_id_++;
  cancellation_->stops_.emplace(id_, std::move(stop));
}

Cancellation::Scope::~Scope() {
  if (cancellation_ == nullptr) return;
  const std::lock_guard lock(cancellation_->mutex_);
  cancellation_->stops_.erase(id_);
}

}  // namespace cenote::wire
