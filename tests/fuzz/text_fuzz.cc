// Goal: names, tags, digests, sizes, times and element types that people or peers write are taken only in the forms that are promised,
// and what is taken reads back as it was written. The first byte picks the parser.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/status.h"
#include "base/units.h"
#include "base/utf8.h"
#include "catalog/names.h"
#include "message/tensor.h"

namespace {

using namespace cenote;

void refused(const absl::Status& status) {
  CENOTE_CHECK(absl::IsInvalidArgument(status) && !status.message().empty());
}

bool plain_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

void model_ref(std::string_view text) {
  const auto ref = parse_model_ref(text);
  if (!ref.ok()) return refused(ref.status());
  CENOTE_CHECK(plain_name(ref->name) && ref->name.size() <= kModelNameBytesMax && check_model_name(ref->name).ok());
  CENOTE_CHECK(ref->tag.empty() != ref->digest_prefix.empty());
  if (!ref->tag.empty()) CENOTE_CHECK(check_tag(ref->tag).ok() && ref->tag.size() <= kTagBytesMax);
  if (!ref->digest_prefix.empty()) CENOTE_CHECK(ref->digest_prefix.size() >= kDigestPrefixMin && ref->digest_prefix.size() <= 64);
  const auto again = parse_model_ref(ref->text());
  CENOTE_CHECK(again.ok() && again->name == ref->name && again->tag == ref->tag && again->digest_prefix == ref->digest_prefix);
}

void bytes(std::string_view text) {
  const auto parsed = parse_bytes(text);
  if (!parsed.ok()) return refused(parsed.status());
  const auto again = parse_bytes(format_bytes(*parsed));  // Rounded for people: near, not equal.
  CENOTE_CHECK(again.ok() || *parsed > UINT64_MAX / 4);
  if (again.ok() && *parsed < kKiB) CENOTE_CHECK(*again == *parsed);
}

void duration(std::string_view text) {
  const auto parsed = parse_duration(text);
  if (!parsed.ok()) return refused(parsed.status());
  CENOTE_CHECK(parsed->ns >= 0);
  CENOTE_CHECK(!format_duration(*parsed).empty());
}

void digest(std::string_view text) {
  const auto parsed = Digest::from_hex(text);
  if (!parsed.ok()) return refused(parsed.status());
  CENOTE_CHECK(text.size() == 64);
  CENOTE_CHECK(std::equal(text.begin(), text.end(), parsed->hex().begin(), [](char a, char b) { return (a | 0x20) == b; }));
}

void utf8(std::string_view text) {
  if (!plain_utf8(text)) return;
  for (const char c : text) CENOTE_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  // Text that is taken ends with a whole character: whatever begins plainly may follow it.
  CENOTE_CHECK(plain_utf8(std::string(text) + "x"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: model_ref(text); break;
    case 1: bytes(text); break;
    case 2: duration(text); break;
    case 3: digest(text); break;
    case 4: utf8(text); break;
    case 5: {
      const auto dtype = dtype_from_name(text);
      if (!dtype.ok()) refused(dtype.status());
      if (dtype.ok()) CENOTE_CHECK(dtype_name(*dtype) == text && dtype_valid(static_cast<int>(*dtype)));
      break;
    }
  }
  return 0;
}
