// Goal: whatever a caller's certificate, address and request say, an entry of the audit log is one line of valid JSON in UTF-8 of bounded
// length, in which no text of theirs can pass for another field or another line.
// Input: u8 code and i64 time, then texts, each after a u8 length (of the first in units of eight).
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "store/audit_log.h"

namespace {

using namespace cenote;

constexpr size_t kTexts = 8;

void check(const std::string& line, const char* phase) {
  CENOTE_CHECK(line.find('\n') == std::string::npos && line.size() < 64 * kAuditTextBytesMax);
  const auto json = nlohmann::json::parse(line, nullptr, false);
  CENOTE_CHECK(json.is_object() && json.at("phase") == phase && json.at("id") == "5d0c" && json.at("what").is_object() && json.at("who").size() == 5);
  CENOTE_CHECK(json.size() == (json.contains("outcome") ? 8u : 6u));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteReader in(std::string_view(reinterpret_cast<const char*>(data), size));
  const auto code = static_cast<absl::StatusCode>(in.u8() % 18);
  const int64_t time_us = in.i64();
  std::string texts[kTexts];
  for (size_t i = 0; i < kTexts; ++i) {
    const size_t length = in.u8() * size_t{i == 0 ? 8u : 1u};  // One may be longer than is kept.
    texts[i].resize(std::min(length, in.left()));
    in.raw(texts[i].data(), texts[i].size());
  }
  AuditEntry entry{.id = "5d0c", .action = "deploy", .what = {{"model", texts[0]}, {"tag", texts[1]}}, .who = {}};
  entry.who = {.role = CallerRole::kDeployer, .subject = texts[4], .tenant = texts[3], .cluster = texts[2], .serial = texts[5], .peer = texts[6]};
  check(audit_begin(entry, time_us), "begin");
  check(audit_end(entry, time_us, absl::Status(code, texts[7])), "end");
  return 0;
}
