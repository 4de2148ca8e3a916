// wire/status.h - one vocabulary on both sides of gRPC: absl::Status <-> grpc::Status and the Status message. Codes are the same
// numbers in all three. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "wire/cenote.pb.h"

namespace cenote::wire {

// Longer messages are cut; a Status is for people and for its code.
inline constexpr size_t kStatusTextBytesMax = 8 << 10;

// `text` as valid UTF-8 of at most `bytes_max`: protobuf refuses whole messages over one bad byte of a string field.
std::string utf8_text(std::string_view text, size_t bytes_max);

grpc::Status to_grpc(const absl::Status& status);
// `peer` (may be empty) is named in the message of transport errors, whose own text rarely says whom it concerns.
absl::Status from_grpc(const grpc::Status& status, std::string_view peer);

void to_proto(const absl::Status& status, v1::Status* proto);
absl::Status from_proto(const v1::Status& proto);  // Unknown codes become kUnknown.

}  // namespace cenote::wire
