#include "wire/caller.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "wire/credentials.h"

namespace cenote::wire {
namespace {

constexpr std::string_view kScheme = "cenote://";
constexpr size_t kUriBytesMax = 512;
constexpr size_t kNamesMax = 256;   // Alternative names that are looked at.
constexpr size_t kKnownMax = 1024;  // Certificates whose meaning is remembered.
constexpr char kRemedy[] = "; the cluster's operator makes one that does: `cenote certificates issue NAME --role client` (operator, deployer), "
                           "and `cenote up` renews a local cluster's own";

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// As settings write names.
bool is_name(std::string_view text) {
  const auto fits = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.'; };
  return !text.empty() && text.size() < kTenantBytesMax && text.front() != '.' && std::all_of(text.begin(), text.end(), fits);
}

std::string_view text_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text))};
}

std::string serial_of(const X509* certificate) {
  const Owned<BIGNUM> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  char* hex = number == nullptr ? nullptr : BN_bn2hex(number.get());
  std::string out = hex == nullptr ? std::string() : absl::AsciiStrToLower(hex);
  OPENSSL_free(hex);
  out.erase(0, std::min(out.find_first_not_of('0'), out.size()));  // As revoked.txt is read.
  return out;
}

std::string common_name_of(const X509* certificate) {
  std::string out;
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) out = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  std::replace_if(out.begin(), out.end(), [](char c) { return !absl::ascii_isprint(static_cast<unsigned char>(c)); }, '?');
  out.resize(std::min(out.size(), kSubjectBytesMax));
  return out;
}

absl::Status nobody(const std::string& subject, std::string_view what) {
  return absl::UnauthenticatedError(str_cat("the certificate of '", subject, "' ", what, kRemedy));
}

}  // namespace

absl::StatusOr<Caller> parse_role_uri(std::string_view uri) {
  const auto bad = [&](std::string_view what) {
    return absl::InvalidArgumentError(str_cat("'", uri.substr(0, kUriBytesMax), "': ", what, "; it reads cenote://CLUSTER/role/ROLE[/tenant/TENANT]"));
  };
  if (uri.size() > kUriBytesMax) return bad("is longer than 512 bytes");
  if (uri.substr(0, kScheme.size()) != kScheme) return bad("does not begin with cenote://");
  const std::vector<std::string> parts = absl::StrSplit(to_absl(uri.substr(kScheme.size())), '/');
  if ((parts.size() != 3 && parts.size() != 5) || parts[1] != "role" || !is_name(parts[0])) return bad("has other parts");
  Caller caller{.cluster = parts[0]};
  bool known = false;
  for (const CallerRole role : {CallerRole::kNode, CallerRole::kOperator, CallerRole::kDeployer, CallerRole::kClient}) {
    if (caller_role_name(role) != parts[2]) continue;
    caller.role = role;
    known = true;
  }
  if (!known) return bad("the role is none of node, operator, deployer, client");
  const bool of_tenant = parts.size() == 5;
  if (of_tenant && (parts[3] != "tenant" || !is_name(parts[4]))) return bad("the tenant is not a name");
  if (of_tenant && caller.role != CallerRole::kDeployer && caller.role != CallerRole::kClient) return bad("only deployers and clients have a tenant");
  if (!of_tenant && caller.role == CallerRole::kDeployer) return bad("a deployer has a tenant");
  if (of_tenant) caller.tenant = parts[4];
  return caller;
}

absl::StatusOr<Caller> read_caller(std::string_view pem) {
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<size_t>(pem.size(), 1 << 20))));
  const Owned<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return absl::UnauthenticatedError("the caller's certificate cannot be read");
  const std::string subject = common_name_of(certificate.get());
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  bool node_name = false;
  std::vector<std::string> uris;
  const size_t count = names == nullptr ? 0 : static_cast<size_t>(sk_GENERAL_NAME_num(names.get()));
  if (count > kNamesMax) return nobody(subject, "carries more than 256 names");
  for (size_t i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), static_cast<int>(i));
    if (name->type == GEN_DNS) node_name = node_name || text_of(name->d.dNSName) == kNodeName;
    if (name->type != GEN_URI) continue;
    const std::string_view uri = text_of(name->d.uniformResourceIdentifier);
    if (uri.substr(0, kScheme.size()) == kScheme) uris.emplace_back(uri);
  }
  if (uris.size() > 1) return nobody(subject, "names more than one role");
  if (uris.empty() && !node_name) return nobody(subject, "names no role (it was made before certificates had roles)");
  Caller caller;
  if (!uris.empty()) {
    absl::StatusOr<Caller> parsed = parse_role_uri(uris.front());
    if (!parsed.ok()) return nobody(subject, str_cat("names a role that is not understood: ", parsed.status().message()));
    caller = *std::move(parsed);
  }
  caller.subject = subject;
  caller.serial = serial_of(certificate.get());
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) == 1) caller.expires_s = ::timegm(&end);
  return caller;
}

absl::StatusOr<Caller> caller_of(const grpc::AuthContext& context) {
  for (const grpc::string_ref& type : context.FindPropertyValues("transport_security_type")) {
    if (type == "local") return Caller{.subject = "local socket"};
  }
  const std::vector<grpc::string_ref> found = context.FindPropertyValues("x509_pem_cert");
  if (found.size() != 1) return absl::UnauthenticatedError("the caller showed no certificate");
  static std::mutex mutex;
  static auto& known = *new std::unordered_map<std::string, absl::StatusOr<Caller>>;
  std::string pem(found[0].data(), found[0].size());
  const std::lock_guard lock(mutex);
  const auto at = known.find(pem);
  if (at != known.end()) return at->second;
  if (known.size() >= kKnownMax) known.clear();
  absl::StatusOr<Caller> caller = read_caller(pem);
  known.emplace(std::move(pem), caller);
  return caller;
}

absl::StatusOr<Caller> caller_of(const grpc::ServerContextBase& context) {
  CENOTE_ASSIGN_OR_RETURN(Caller caller, caller_of(*context.auth_context()));
  caller.peer = context.peer();
  return caller;
}

}  // namespace cenote::wire
