#include "certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <filesystem>

#include "base/status.h"
#include "wire/credentials.h"

namespace cenote::wire {
namespace {

struct Issued {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
};

// `issuer` null: self-signed authority. `names` empty: no alternative names.
Issued make(const std::string& common_name, const std::string& names, long valid_seconds, const Issued* issuer) {
  static long serial = 1;
  Issued out{EVP_EC_gen("P-256"), X509_new()};
  X509_set_version(out.certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out.certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(out.certificate), -7200);
  X509_gmtime_adj(X509_getm_notAfter(out.certificate), valid_seconds);
  X509_set_pubkey(out.certificate, out.key);
  X509_NAME* name = X509_get_subject_name(out.certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
  X509_set_issuer_name(out.certificate, issuer != nullptr ? X509_get_subject_name(issuer->certificate) : name);
  const auto extend = [&](int nid, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    CENOTE_CHECK(extension != nullptr);
    X509_add_ext(out.certificate, extension, -1);
    X509_EXTENSION_free(extension);
  };
  if (issuer == nullptr) extend(NID_basic_constraints, "critical,CA:TRUE");
  if (!names.empty()) extend(NID_subject_alt_name, names);
  CENOTE_CHECK(X509_sign(out.certificate, issuer != nullptr ? issuer->key : out.key, EVP_sha256()) > 0);
  return out;
}

// Whole or not at all, as the tool writes them.
template <typename Write>
void replace(const std::string& path, const char* mode, const Write& write) {
  const std::string part = path + ".part";
  if (*mode == 'a' && std::filesystem::exists(path)) std::filesystem::copy_file(path, part);
  std::FILE* file = std::fopen(part.c_str(), mode);
  CENOTE_CHECK(file != nullptr && write(file) == 1);
  std::fclose(file);
  std::filesystem::rename(part, path);
}

void write(const Issued& issued, const std::string& stem, const char* mode = "w") {
  replace(stem + ".key", "w", [&](std::FILE* file) { return PEM_write_PrivateKey(file, issued.key, nullptr, nullptr, 0, nullptr, nullptr); });
  replace(stem + ".crt", mode, [&](std::FILE* file) { return PEM_write_X509(file, issued.certificate); });
}

void destroy(const Issued& issued) {
  X509_free(issued.certificate);
  EVP_PKEY_free(issued.key);
}

}  // namespace

struct TestCertificates::Authority {
  Issued issued;
  ~Authority() { destroy(issued); }
};

TestCertificates::TestCertificates(long valid_seconds) {
  std::string name = (std::filesystem::temp_directory_path() / "cenote_test_XXXXXX").string();
  CENOTE_CHECK(mkdtemp(name.data()) != nullptr);
  directory_ = name;
  roll_over();
  issue("node", str_cat("DNS:", kNodeName, ",URI:cenote://test/role/node"), valid_seconds);
  issue("client", "URI:cenote://test/role/operator", valid_seconds);
}

TestCertificates::~TestCertificates() { std::filesystem::remove_all(directory_); }

void TestCertificates::issue(const std::string& name, const std::string& names, long valid_seconds) {
  const Issued issued = make(name, names, valid_seconds, &authority_->issued);
  write(issued, directory_ + "/" + name);
  destroy(issued);
}

void TestCertificates::roll_over() {
  static int count = 0;
  authority_.reset(new Authority{make(str_cat("cenote test ", ++count), "", 7200, nullptr)});
  write(authority_->issued, directory_ + "/ca", "a");
}

}  // namespace cenote::wire
