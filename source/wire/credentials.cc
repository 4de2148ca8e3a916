#include "wire/credentials.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/status.h"
#include "grpc/grpc.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "wire/caller.h"
#include "wire/gate.h"

namespace cenote::wire {

// gRPC's own watcher: reads the files each second and gives what changed to connections made from then on.
class WatchedFiles {
 public:
  WatchedFiles(const std::string& key, const std::string& certificate, const std::string& authority) {
    ::grpc_init();
    provider_ = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(key, certificate, authority, kReadIntervalS);
  }
  ~WatchedFiles() {
    provider_.reset();
    ::grpc_shutdown();
  }
  WatchedFiles(const WatchedFiles&) = delete;
  WatchedFiles& operator=(const WatchedFiles&) = delete;

  const std::shared_ptr<grpc::experimental::CertificateProviderInterface>& provider() const { return provider_; }

 private:
  static constexpr unsigned kReadIntervalS = 1;
  std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider_;
};

namespace {

constexpr size_t kPemBytesMax = 1 << 20;
constexpr size_t kAuthoritiesMax = 16;
constexpr char kRemedy[] = "; on the cluster's own machine `cenote up` and `cenote certificates rotate` make them anew, anybody else asks its operator "
                           "for a new bundle (`cenote certificates issue`)";

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

absl::Status check_valid_now(const std::string& path, const X509* certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return refuse(path, str_cat("expired ", print_time(X509_get0_notAfter(certificate))));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    return refuse(path, str_cat("is not valid before ", print_time(X509_get0_notBefore(certificate))));
  }
  return absl::OkStatus();
}

// The first `most` certificates of the file.
absl::StatusOr<std::vector<Owned<X509>>> read_certificates(const std::string& path, const std::string& pem, size_t most) {
  const Owned<BIO> bio = text_bio(pem);
  std::vector<Owned<X509>> found;
  while (found.size() < most) {
    Owned<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (certificate == nullptr) break;
    found.push_back(std::move(certificate));
  }
  ERR_clear_error();  // The end of the file is one.
  if (found.empty()) return refuse(path, "holds no PEM certificate");
  return found;
}

// By one of the authorities that are valid now.
absl::Status check_signed(const std::string& path, X509* certificate, const std::string& authority_path, const std::vector<Owned<X509>>& authorities) {
  absl::Status why = refuse(path, "is not signed by " + authority_path);
  for (const Owned<X509>& authority : authorities) {
    if (X509_verify(certificate, X509_get0_pubkey(authority.get())) != 1) continue;
    why = check_valid_now(authority_path, authority.get());
    if (why.ok()) break;
  }
  ERR_clear_error();
  return why;
}

absl::StatusOr<Identity> load_identity(const std::string& directory, const std::string& name) {
  const std::string authority_path = directory + "/ca.crt";
  const std::string certificate_path = directory + "/" + name + ".crt";
  const std::string key_path = directory + "/" + name + ".key";
  Identity identity;
  CENOTE_ASSIGN_OR_RETURN(identity.authority, read_pem(authority_path));
  CENOTE_ASSIGN_OR_RETURN(identity.certificate, read_pem(certificate_path));
  CENOTE_ASSIGN_OR_RETURN(identity.key, read_pem(key_path));
  CENOTE_ASSIGN_OR_RETURN(const auto authorities, read_certificates(authority_path, identity.authority, kAuthoritiesMax));
  CENOTE_ASSIGN_OR_RETURN(const auto own, read_certificates(certificate_path, identity.certificate, 1));
  X509* certificate = own.front().get();
  CENOTE_RETURN_IF_ERROR(check_valid_now(certificate_path, certificate));
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(text_bio(identity.key).get(), nullptr, nullptr, nullptr));
  if (key == nullptr) return refuse(key_path, "holds no PEM private key without passphrase");
  if (X509_check_private_key(certificate, key.get()) != 1) return refuse(key_path, "does not belong to " + certificate_path);
  CENOTE_RETURN_IF_ERROR(check_signed(certificate_path, certificate, authority_path, authorities));
  if (const absl::StatusOr<Caller> self = read_caller(identity.certificate); self.ok()) identity.cluster = self->cluster;
  identity.watched = std::make_shared<WatchedFiles>(key_path, certificate_path, authority_path);
  identity.revoked = std::make_shared<RevokedCertificates>(directory + "/revoked.txt");
  return identity;
}

std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider_of(const Identity& identity) {
  if (identity.watched != nullptr) return identity.watched->provider();
  std::vector<grpc::experimental::IdentityKeyCertPair> pairs;
  if (!identity.certificate.empty()) pairs.push_back({identity.key, identity.certificate});
  return std::make_shared<grpc::experimental::StaticDataCertificateProvider>(identity.authority, pairs);
}

}  // namespace

absl::StatusOr<Identity> load_node_identity(const std::string& directory) { return load_identity(directory, "node"); }
absl::StatusOr<Identity> load_client_identity(const std::string& directory) { return load_identity(directory, "client"); }

std::shared_ptr<grpc::ServerCredentials> server_credentials(const Identity& identity) {
  grpc::experimental::TlsServerCredentialsOptions options(provider_of(identity));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::experimental::TlsServerCredentials(options);
  const auto revoked = identity.revoked != nullptr ? identity.revoked : std::make_shared<RevokedCertificates>("");
  credentials->SetAuthMetadataProcessor(make_gate(identity.cluster, revoked));
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const Identity& identity) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(provider_of(identity));
  options.watch_root_certs();
  if (!identity.certificate.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> unix_server_credentials() { return grpc::experimental::LocalServerCredentials(UDS); }
std::shared_ptr<grpc::ChannelCredentials> unix_channel_credentials() { return grpc::experimental::LocalCredentials(UDS); }

absl::Status require_node(const grpc::ServerContextBase& context, const char* action) {
  CENOTE_ASSIGN_OR_RETURN(const Caller caller, caller_of(context));
  if (caller.role == CallerRole::kNode) return absl::OkStatus();
  return absl::PermissionDeniedError(
      str_cat("only the cluster's daemons may ", action, ", not ", describe_caller(caller), ": its certificate does not carry the role node"));
}

}  // namespace cenote::wire
