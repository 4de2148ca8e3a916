// tests/sanitizers/grpc_order.cc - tells the thread sanitizer what gRPC does in order; linked into the programs of preset tsan only.
//
// gRPC and Abseil are not instrumented. What one thread hands to gRPC with an operation, and the thread of its callback takes from it, would
// look like a race. Suppressions match any frame of a report, and below everything that our code does in a callback there are gRPC's
// frames: they would hide what is looked for. So the orders that gRPC promises are said here, and nothing else:
//   - who unlocks an absl::Mutex comes before who locks it next (gRPC has no other mutex),
//   - who begins an operation comes before its callback,
//   - a server's reactor is set up before its OnCancel, and all of its callbacks come before its OnDone (whoever is the last to count
//     down may be the library, whose count is not seen), and these before the end of the server's Shutdown.
// Our definitions are found before the libraries' own, which they call.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdlib>
#include <string>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "grpc/grpc.h"
#include "grpcpp/server.h"
#include "grpcpp/support/callback_common.h"
#include "grpcpp/support/server_callback.h"

namespace {

#define CENOTE_TEXT_OF(name) #name
#define CENOTE_TEXT(name) CENOTE_TEXT_OF(name)

void* next(const std::string& symbol) {
  void* const found = ::dlsym(RTLD_NEXT, symbol.c_str());
  if (found == nullptr) std::abort();  // Another version of the library: name its symbol anew.
  return found;
}

// `rest` is the mangled name after the namespace.
void* next_of_absl(const char* rest) {
  const std::string space = ABSL_OPTION_USE_INLINE_NAMESPACE == 0 ? "" : CENOTE_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  return next("_ZN4absl" + (space.empty() ? "" : std::to_string(space.size()) + space) + rest);
}

template <typename Function>
Function* as(void* symbol) {
  return reinterpret_cast<Function*>(symbol);
}

using Functor = grpc_completion_queue_functor;
using Run = void (*)(Functor*, int);

// What gRPC calls for a callback is private to its two tags; an explicit instantiation may name it.
Run run_of_success();
Run run_of_status();
template <Run kRun>
struct SuccessTag {
  friend Run run_of_success() { return kRun; }
};
template <Run kRun>
struct StatusTag {
  friend Run run_of_status() { return kRun; }
};
template struct SuccessTag<&grpc::internal::CallbackWithSuccessTag::StaticRun>;
template struct StatusTag<&grpc::internal::CallbackWithStatusTag::StaticRun>;

template <Run (*kRun)()>
void run_in_order(Functor* functor, int ok) {
  __tsan_acquire(functor);
  kRun()(functor, ok);
}

// The tag of a call that is waited for is no functor; nothing of it equals one of these.
void call_in_order(Functor* functor) {
  if (functor->functor_run == run_of_success()) functor->functor_run = &run_in_order<&run_of_success>;
  if (functor->functor_run == run_of_status()) functor->functor_run = &run_in_order<&run_of_status>;
}

}  // namespace

extern "C" grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag, void* reserved) {
  static const auto real = as<decltype(grpc_call_start_batch)>(next("grpc_call_start_batch"));
  call_in_order(static_cast<Functor*>(tag));
  __tsan_release(tag);
  return real(call, ops, count, tag, reserved);
}

void grpc::internal::ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  static const auto real =
      as<void(ServerCallbackCall*, ServerReactor*)>(next("_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE"));
  __tsan_acquire(&on_cancel_conditions_remaining_);
  real(this, reactor);
}

void grpc::internal::ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
  static const auto real = as<void(ServerCallbackCall*, bool)>(next("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb"));
  __tsan_acquire(&callbacks_outstanding_);
  real(this, inline_ondone);
}

// Each call has one reference to its server until it is done.
void grpc::Server::UnrefWithPossibleNotify() {
  static const auto real = as<void(Server*)>(next("_ZN4grpc6Server23UnrefWithPossibleNotifyEv"));
  __tsan_release(this);
  real(this);
}

void grpc::Server::UnrefAndWaitLocked() {
  static const auto real = as<void(Server*)>(next("_ZN4grpc6Server18UnrefAndWaitLockedEv"));
  real(this);
  __tsan_acquire(this);
}

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto real = as<void(Mutex*)>(next_of_absl("5Mutex4LockEv"));
  real(this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() {
  static const auto real = as<bool(Mutex*)>(next_of_absl("5Mutex7TryLockEv"));
  if (!real(this)) return false;
  __tsan_acquire(this);
  return true;
}

void Mutex::Unlock() {
  static const auto real = as<void(Mutex*)>(next_of_absl("5Mutex6UnlockEv"));
  __tsan_release(this);
  real(this);
}

void CondVar::Wait(Mutex* mutex) {
  static const auto real = as<void(CondVar*, Mutex*)>(next_of_absl("7CondVar4WaitEPNS0_5MutexE"));
  __tsan_release(mutex);
  real(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto real = as<bool(CondVar*, Mutex*, Duration)>(next_of_absl("7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE"));
  __tsan_release(mutex);
  const bool timed_out = real(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto real = as<bool(CondVar*, Mutex*, Time)>(next_of_absl("7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE"));
  __tsan_release(mutex);
  const bool timed_out = real(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

ABSL_NAMESPACE_END
}  // namespace absl
