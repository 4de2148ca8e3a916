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

// `issuer` null: self-signed authority. `dns` empty: no alternative name.
Issued issue(const char* common_name, const std::string& dns, long valid_seconds, const Issued* issuer) {
  static long serial = 1;
  Issued out{EVP_EC_gen("P-256"), X509_new()};
  X509_set_version(out.certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out.certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(out.certificate), -7200);
  X509_gmtime_adj(X509_getm_notAfter(out.certificate), valid_seconds);
  X509_set_pubkey(out.certificate, out.key);
  X509_NAME* name = X509_get_subject_name(out.certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);
  X509_set_issuer_name(out.certificate, issuer != nullptr ? X509_get_subject_name(issuer->certificate) : name);
  const auto extend = [&](int nid, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    CENOTE_CHECK(extension != nullptr);
    X509_add_ext(out.certificate, extension, -1);
    X509_EXTENSION_free(extension);
  };
  if (issuer == nullptr) extend(NID_basic_constraints, "critical,CA:TRUE");
  if (!dns.empty()) extend(NID_subject_alt_name, "DNS:" + dns);
  CENOTE_CHECK(X509_sign(out.certificate, issuer != nullptr ? issuer->key : out.key, EVP_sha256()) > 0);
  return out;
}

void write(const Issued& issued, const std::string& stem) {
  std::FILE* file = std::fopen((stem + ".crt").c_str(), "w");
  CENOTE_CHECK(file != nullptr && PEM_write_X509(file, issued.certificate) == 1);
  std::fclose(file);
  file = std::fopen((stem + ".key").c_str(), "w");
  CENOTE_CHECK(file != nullptr && PEM_write_PrivateKey(file, issued.key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  std::fclose(file);
}

void destroy(const Issued& issued) {
  X509_free(issued.certificate);
  EVP_PKEY_free(issued.key);
}

}  // namespace

TestCertificates::TestCertificates(long valid_seconds) {
  std::string name = (std::filesystem::temp_directory_path() / "cenote_test_XXXXXX").string();
  CENOTE_CHECK(mkdtemp(name.data()) != nullptr);
  directory_ = name;
  const Issued authority = issue("cenote test", "", 7200, nullptr);
  const Issued node = issue("node", kNodeName, valid_seconds, &authority);
  const Issued client = issue("client", "client.cenote", valid_seconds, &authority);
  write(authority, directory_ + "/ca");
  write(node, directory_ + "/node");
  write(client, directory_ + "/client");
  for (const Issued& issued : {authority, node, client}) destroy(issued);
}

TestCertificates::~TestCertificates() { std::filesystem::remove_all(directory_); }

}  // namespace cenote::wire
