#include "wire/status.h"

#include "base/text.h"

namespace cenote::wire {
namespace {

absl::StatusCode known_code(int code) {
  return code >= 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated) ? static_cast<absl::StatusCode>(code)
                                                                                   : absl::StatusCode::kUnknown;
}

// Bytes of the well-formed UTF-8 sequence at the front of `text`; 0 if there is none (Unicode 15, table 3-7).
size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool beyond = (lead == 0xed && second > 0x9f) || (lead == 0xf4 && second > 0x8f);
  return overlong || beyond ? 0 : length;
}

}  // namespace

std::string utf8_text(std::string_view text, size_t bytes_max) {
  std::string out;
  out.reserve(std::min(text.size(), bytes_max));
  while (!text.empty()) {
    const size_t length = sequence_bytes(text);
    if (out.size() + std::max<size_t>(length, 1) > bytes_max) break;
    if (length == 0) {
      out.push_back('?');
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  return out;
}

grpc::Status to_grpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), utf8_text(to_std(status.message()), kStatusTextBytesMax));
}

absl::Status from_grpc(const grpc::Status& status, std::string_view peer) {
  if (status.ok()) return absl::OkStatus();
  const absl::StatusCode code = known_code(status.error_code());
  const bool transport = code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDeadlineExceeded;
  if (transport && !peer.empty()) return absl::Status(code, str_cat(peer, ": ", status.error_message()));
  return absl::Status(code, status.error_message());
}

void to_proto(const absl::Status& status, v1::Status* proto) {
  proto->set_code(static_cast<uint32_t>(status.code()));
  if (!status.ok()) proto->set_message(utf8_text(to_std(status.message()), kStatusTextBytesMax));
}

absl::Status from_proto(const v1::Status& proto) {
  if (proto.code() == 0) return absl::OkStatus();
  const int code = proto.code() > 1000 ? 1000 : static_cast<int>(proto.code());
  return absl::Status(known_code(code), to_absl(std::string_view(proto.message()).substr(0, kStatusTextBytesMax)));
}

}  // namespace cenote::wire
