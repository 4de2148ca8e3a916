#include "wire/credentials.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/status.h"
#include "grpcpp/security/auth_context.h"

namespace cenote::wire {
namespace {

constexpr size_t kPemBytesMax = 1 << 20;
constexpr char kRemedy[] = "; run `cenote up` to make the cluster's certificates, or copy them from a machine of the cluster";

absl::Status refuse(const std::string& path, std::string_view what) {
  return absl::UnauthenticatedError(str_cat(path, ": ", what, kRemedy));
}

absl::StatusOr<std::string> read_pem(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) return refuse(path, std::strerror(errno));
  std::string text(kPemBytesMax + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) return refuse(path, "cannot be read");
  if (text.empty()) return refuse(path, "is empty");
  if (text.size() > kPemBytesMax) return refuse(path, "is larger than 1 MiB, not a PEM file");
  return text;
}

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

Owned<BIO> text_bio(const std::string& text) { return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

std::string print_time(const ASN1_TIME* time) {
  Owned<BIO> bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), time);
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, length);
}

// The first certificate of the file, valid now.
absl::StatusOr<Owned<X509>> read_certificate(const std::string& path, const std::string& pem) {
  Owned<X509> certificate(PEM_read_bio_X509(text_bio(pem).get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return refuse(path, "holds no PEM certificate");
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return refuse(path, str_cat("expired ", print_time(X509_get0_notAfter(certificate.get()))));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) {
    return refuse(path, str_cat("is not valid before ", print_time(X509_get0_notBefore(certificate.get()))));
  }
  return certificate;
}

absl::StatusOr<Identity> load_identity(const std::string& directory, const std::string& name) {
  const std::string authority_path = directory + "/ca.crt";
  const std::string certificate_path = directory + "/" + name + ".crt";
  const std::string key_path = directory + "/" + name + ".key";
  Identity identity;
  CENOTE_ASSIGN_OR_RETURN(identity.authority, read_pem(authority_path));
  CENOTE_ASSIGN_OR_RETURN(identity.certificate, read_pem(certificate_path));
  CENOTE_ASSIGN_OR_RETURN(identity.key, read_pem(key_path));
  CENOTE_ASSIGN_OR_RETURN(const Owned<X509> authority, read_certificate(authority_path, identity.authority));
  CENOTE_ASSIGN_OR_RETURN(const Owned<X509> certificate, read_certificate(certificate_path, identity.certificate));
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(text_bio(identity.key).get(), nullptr, nullptr, nullptr));
  if (key == nullptr) return refuse(key_path, "holds no PEM private key without passphrase");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) return refuse(key_path, "does not belong to " + certificate_path);
  if (X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) != 1) {
    return refuse(certificate_path, "is not signed by " + authority_path);
  }
  return identity;
}

}  // namespace

absl::StatusOr<Identity> load_node_identity(const std::string& directory) { return load_identity(directory, "node"); }
absl::StatusOr<Identity> load_client_identity(const std::string& directory) { return load_identity(directory, "client"); }

std::shared_ptr<grpc::ServerCredentials> server_credentials(const Identity& identity) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = identity.authority;
  options.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const Identity& identity) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = identity.authority;
  options.pem_private_key = identity.key;
  options.pem_cert_chain = identity.certificate;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> unix_server_credentials() { return grpc::experimental::LocalServerCredentials(UDS); }
std::shared_ptr<grpc::ChannelCredentials> unix_channel_credentials() { return grpc::experimental::LocalCredentials(UDS); }

absl::Status require_node(const grpc::ServerContextBase& context, const char* action) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  for (const grpc::string_ref& type : auth->FindPropertyValues("transport_security_type")) {
    if (type == "local") return absl::OkStatus();
  }
  for (const grpc::string_ref& name : auth->FindPropertyValues("x509_subject_alternative_name")) {
    if (name == kNodeName) return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      str_cat("only the cluster's daemons may ", action, ": the caller's certificate does not carry the name ", kNodeName));
}

}  // namespace cenote::wire
