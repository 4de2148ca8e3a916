// bin/audited.h - changes that people ask for, each written to the audit log before it is made, and its outcome before it is answered.
// A change that cannot be written down is refused, unless settings say otherwise (audit.required). Costs two writes to the disk a change,
// in the order of the changes, on a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status.h"
#include "bin/worker.h"
#include "store/audit_log.h"

namespace cenote {

class Audited {
 public:
  // At most so many changes at once; more are refused.
  static constexpr uint64_t kChangesMax = 4096;

  Audited(std::unique_ptr<AuditLog> log, bool required)
      : log_(std::move(log)), required_(required), worker_(std::make_unique<Worker>()), tasks_(worker_.get()) {}
  ~Audited() { stop(); }

  // `make(done)` makes the change, on this object's thread, and calls its `done` once, from any thread. `done` answers whoever asked;
  // called once. Any thread.
  template <typename Result>
  void change(AuditEntry entry, std::function<void(std::function<void(Result)>)> make, std::function<void(Result)> done) {
    entry.id = str_cat(absl::Hex(new_incarnation(), absl::kZeroPad16));
    const auto shared = std::make_shared<const AuditEntry>(std::move(entry));
    const absl::Status begun = begin([this, shared, make = std::move(make), done] {
      if (const absl::Status written = log_->append(audit_begin(*shared, wall_clock_us())); !written.ok()) {
        LOG_ERROR("{}", to_std(written.message()));
        if (required_) return finish(done, Result(written));
      }
      make([this, shared, done](Result result) {
        tasks_->post([this, shared, done, result = std::move(result)] {
          const std::string line = audit_end(*shared, wall_clock_us(), status_of(result));
          // The change is made and answered as it ended; the daemon's own log has what the audit log could not take.
          if (const absl::Status written = log_->append(line); !written.ok()) LOG_ERROR("{}; not written: {}", to_std(written.message()), line);
          finish(done, result);
        });
      });
    });
    if (!begun.ok()) done(Result(begun));
  }

  // Refuses what comes after, ends what was begun. What `make` waits for must have been answered, or be answered at once, before whatever
  // `make` and `done` refer to goes. Once.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    worker_.reset();
  }

 private:
  static absl::Status status_of(const absl::Status& status) { return status; }
  template <typename Value>
  static absl::Status status_of(const absl::StatusOr<Value>& result) { return result.status(); }

  absl::Status begin(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (stopping_) return absl::UnavailableError("the controller is stopping");
    if (under_way_ >= kChangesMax) return absl::ResourceExhaustedError(str_cat(kChangesMax, " changes are under way, the limit; try again in a moment"));
    ++under_way_;
    tasks_->post(std::move(task));
    return absl::OkStatus();
  }

  template <typename Result>
  void finish(const std::function<void(Result)>& done, Result result) {
    {
      const std::lock_guard lock(mutex_);
      --under_way_;
    }
    done(std::move(result));
  }

  const std::unique_ptr<AuditLog> log_;  // The worker's only.
  const bool required_;
  std::mutex mutex_;
  bool stopping_ = false;
  uint64_t under_way_ = 0;
  std::unique_ptr<Worker> worker_;
  Worker* const tasks_;  // Also while worker_ ends.
};

}  // namespace cenote
