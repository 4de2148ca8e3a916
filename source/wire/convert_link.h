// wire/convert_link.h - message/link.h, the talk of an executor and its agent <-> protobuf. Rules: wire/convert_record.h.
#pragma once

#include "absl/status/statusor.h"
#include "message/link.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

// kInvalidArgument also for a kind that this version does not know.
void to_proto(const ExecutorUp& message, v1::ExecutorUp* proto);
absl::StatusOr<ExecutorUp> from_proto(const v1::ExecutorUp& proto);
void to_proto(const ExecutorDown& message, v1::ExecutorDown* proto);
absl::StatusOr<ExecutorDown> from_proto(const v1::ExecutorDown& proto);

void to_proto(const CacheExtent& extent, v1::CacheExtent* proto);
absl::StatusOr<CacheExtent> from_proto(const v1::CacheExtent& proto);
void to_proto(const WantedChunks& wanted, v1::WantedChunks* proto);
absl::StatusOr<WantedChunks> from_proto(const v1::WantedChunks& proto);

}  // namespace cenote::wire
