// Goal: what a certificate lets its holder do is read only from the one form that the authority writes; odd certificates are nobody's,
// and a list of revoked ones is read as far as it makes sense.
// Input: the first byte picks role URI, certificate (DER, which TLS would hand over as PEM), list of serials, or certificate as PEM.
#include <openssl/evp.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/text.h"
#include "wire/caller.h"
#include "wire/revoked.h"

namespace {

using namespace cenote;

void check(const Caller& caller) {
  CENOTE_CHECK(!caller_role_name(caller.role).empty() && caller.tenant.size() < kTenantBytesMax && !caller.tenant.empty());
  CENOTE_CHECK(caller.subject.size() <= kSubjectBytesMax);
  for (const char c : caller.subject) CENOTE_CHECK(c >= 0x20 && c < 0x7f);
  CENOTE_CHECK(caller.serial.empty() || caller.serial.front() != '0');
  CENOTE_CHECK(caller.serial.find_first_not_of("-0123456789abcdef") == std::string::npos);
}

void role_uri(std::string_view uri) {
  const auto caller = wire::parse_role_uri(uri);
  if (!caller.ok()) {
    CENOTE_CHECK(absl::IsInvalidArgument(caller.status()) && caller.status().message().size() < 1024);
    return;
  }
  check(*caller);
  std::string again = str_cat("cenote://", caller->cluster, "/role/", caller_role_name(caller->role));
  if (uri.find("/tenant/") != std::string_view::npos) str_append(&again, "/tenant/", caller->tenant);
  CENOTE_CHECK(again == uri);
}

void certificate(std::string_view der) {
  std::string base64(der.size() / 3 * 4 + 8, '\0');
  base64.resize(EVP_EncodeBlock(reinterpret_cast<uint8_t*>(base64.data()), reinterpret_cast<const uint8_t*>(der.data()), static_cast<int>(der.size())));
  std::string pem = "-----BEGIN CERTIFICATE-----\n";
  for (size_t at = 0; at < base64.size(); at += 64) str_append(&pem, base64.substr(at, 64), "\n");
  pem += "-----END CERTIFICATE-----\n";
  const auto caller = wire::read_caller(pem);
  if (caller.ok()) return check(*caller);
  CENOTE_CHECK(absl::IsUnauthenticated(caller.status()) && caller.status().message().size() < 2048);
}

void revoked(std::string_view text) {
  const std::set<std::string> serials = wire::parse_revoked(text);
  std::string again;
  for (const std::string& serial : serials) {
    CENOTE_CHECK(!serial.empty() && serial.find_first_not_of("0123456789abcdef") == std::string::npos);
    CENOTE_CHECK(serial == "0" || serial.front() != '0');
    str_append(&again, "  00", serial, " # why\n");
  }
  CENOTE_CHECK(wire::parse_revoked(again) == serials);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: role_uri(rest); break;
    case 1: certificate(rest); break;
    case 2: revoked(rest); break;
    case 3: {
      const auto caller = wire::read_caller(rest);  // PEM, or not even that.
      if (caller.ok()) check(*caller);
      break;
    }
  }
  return 0;
}
